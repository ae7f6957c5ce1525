//! The small models of `fixtures/cases`: each stands for a kind of fault, or of a merge that was missing once.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use updp_ir::{Model, no_external_data};
use updp_testkit::{find_ort, node_total, skip};

use crate::fixtures::folder;

/// Name, number of nodes before, and the most nodes after.
const COMPILED: [(&str, usize, usize); 78] = [
    ("01b_negzero_add0", 2, 2),
    ("10_same_stride_gt_kernel_SAME_LOWER", 3, 3),
    ("10_same_stride_gt_kernel_SAME_UPPER", 3, 3),
    ("14_concat_empty", 9, 4),
    ("22_dq_weights_bn", 5, 5),
    ("23_conv_reshape_same_bn", 3, 1),
    ("23b_conv_squeeze_bn", 4, 3),
    ("30b_sequence_output", 4, 2),
    ("36_pad_nop_reflect", 3, 2),
    ("44b_unknown_field", 4, 3),
    ("50_focus_conv", 10, 1),
    ("51_concat_convs_bn", 4, 3),
    ("52b_conv_gap_bn", 3, 2),
    ("52c_bn_gap_flatten_gemm", 4, 3),
    ("53_const_minus", 2, 1),
    ("53_const_plus_conv_left", 3, 1),
    ("53_conv_neg", 2, 1),
    ("53_conv_of_sum", 2, 1),
    ("53_double", 2, 1),
    ("53_half_x_plus_conv", 3, 1),
    ("53_mean_branches", 3, 1),
    ("53_mean_const", 2, 1),
    ("53_mul_x_x", 2, 2),
    ("53_neg_conv", 2, 1),
    ("53_recip", 3, 1),
    ("53_sub_self", 2, 2),
    ("53_sum_const", 2, 1),
    ("53_triple", 2, 1),
    ("53_x_minus_conv", 2, 1),
    ("54_bn_primitives_pow", 11, 1),
    ("55_weight_norm", 5, 1),
    ("55c_weight_einsum", 3, 1),
    ("55d_lora_matmul_weights", 4, 1),
    ("57e_if_constant", 5, 3),
    ("59_levit_linear_bn", 5, 2),
    ("59n_noop_avg1", 3, 1),
    ("59n_noop_castlike", 3, 1),
    ("59n_noop_clipinf", 3, 3),
    ("59n_noop_concat_empty", 3, 3),
    ("59n_noop_d2s1", 3, 1),
    ("59n_noop_expand", 3, 1),
    ("59n_noop_gather_all", 3, 1),
    ("59n_noop_leaky1", 3, 1),
    ("59n_noop_max1", 3, 1),
    ("59n_noop_mean1", 3, 1),
    ("59n_noop_neg_neg", 4, 1),
    ("59n_noop_padreflect0", 3, 1),
    ("59n_noop_pool1", 3, 1),
    ("59n_noop_pow1", 3, 1),
    ("59n_noop_reduce1", 3, 1),
    ("59n_noop_resh2", 4, 1),
    ("59n_noop_reshape", 3, 1),
    ("59n_noop_resize1", 3, 1),
    ("59n_noop_slice", 3, 1),
    ("59n_noop_split1", 3, 1),
    ("59n_noop_tile1", 3, 1),
    ("59n_noop_trans2", 4, 1),
    ("59n_noop_unsq_sq", 4, 1),
    ("59n_noop_where", 3, 1),
    ("60_sum_skip_and_2", 2, 2),
    ("60z_sum_unnamed_5", 2, 2),
    ("61d_border_name_taken", 3, 3),
    ("61g_two_borders_default_32_4_8", 4, 2),
    ("62_gemm_zero_bias_scale_opset10", 2, 1),
    ("62_gemm_zero_bias_scale_opset11", 2, 1),
    ("62_gemm_zero_bias_scale_opset7", 2, 1),
    ("62_gemm_zero_bias_scale_opset9", 2, 1),
    ("62b_gemm_gemm_zero_bias_opset9", 2, 1),
    ("62c_gemm_zero_bias_alone", 1, 1),
    ("62d_gemm_beta0", 2, 1),
    ("62e_scale_gemm_beta0", 2, 1),
    ("63_prune_split_second", 12, 12),
    ("63b_prune_split_first", 12, 12),
    ("66c_scale_mul_name_taken", 5, 4),
    ("72c_map_map", 3, 2),
    ("81_train_freeze_unknown", 6, 6),
    ("81_train_labels_beyond", 6, 6),
    ("82_prune_c2f", 23, 18),
];

/// Name and code of models that no runtime runs.
const REFUSED: [(&str, &str); 5] = [
    ("27b_bn9_empty_extra_outputs", "I0111"),
    ("32_bad_ctgroup0", "I0110"),
    ("32_bad_splitseq0", "I0110"),
    ("32_bad_transdup", "I0110"),
    ("34f_split_unnamed_first_output", "I0111"),
];

fn file(name: &str) -> PathBuf {
    folder().join("cases").join(format!("{name}.onnx"))
}

fn program(arguments: &[&str], paths: [&Path; 2]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_updp-compile"));
    command.args(arguments).arg(paths[0]).arg("-o").arg(paths[1]);
    command.output().expect("the program starts")
}

fn nodes(path: &Path) -> usize {
    let bytes = std::fs::read(path).expect("written").into();
    node_total(&Model::decode(bytes, &mut no_external_data).expect("a model").graph)
}

#[test]
fn every_case_is_compiled_verified_and_as_small_as_it_can_be() {
    if find_ort().is_none() {
        return skip(
            "every_case_is_compiled_verified_and_as_small_as_it_can_be",
            "no ONNX Runtime library",
        );
    }
    let scene = tempfile::tempdir().expect("a folder");
    let made = scene.path().join("made.onnx");
    for (name, before, most) in COMPILED {
        let ran = program(&["compile"], [&file(name), &made]);
        let told = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success(), "{name}: {told}");
        assert_eq!(nodes(&file(name)), before, "{name}");
        assert!(nodes(&made) <= most, "{name}: {} nodes\n{told}", nodes(&made));
        // What was made has nothing left to merge.
        let again = scene.path().join("again.onnx");
        assert!(program(&["compile", "--no-verify"], [&made, &again]).status.success(), "{name}");
        assert!(nodes(&again) >= nodes(&made), "{name}: merged further the second time");
    }
}

#[test]
fn cases_that_no_runtime_runs_are_refused_and_leave_nothing() {
    for (name, code) in REFUSED {
        let scene = tempfile::tempdir().expect("a folder");
        let ran = program(&["compile"], [&file(name), &scene.path().join("made.onnx")]);
        let told = String::from_utf8_lossy(&ran.stderr);
        assert_eq!(ran.status.code(), Some(3), "{name}: {told}");
        assert!(told.starts_with(&format!("error[{code}]: ")), "{name}: {told}");
        assert_eq!(std::fs::read_dir(scene.path()).expect("a folder").count(), 0, "{name}");
    }
}

#[test]
fn every_case_is_tried() {
    let tried = COMPILED.iter().map(|it| it.0).chain(REFUSED.iter().map(|it| it.0));
    let tried: BTreeSet<String> = tried.map(|name| format!("{name}.onnx")).collect();
    let files = std::fs::read_dir(folder().join("cases")).expect("a folder");
    let names = files.map(|it| it.expect("an entry").file_name().to_string_lossy().into_owned());
    assert_eq!(names.collect::<BTreeSet<_>>(), tried);
}
