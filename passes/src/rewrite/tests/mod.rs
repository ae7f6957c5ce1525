//! Tests of rules that are too long for the rule's own file. Each test runs one rule alone, proves the
//! result by execution, and runs the rule again to see that nothing is left to do.

mod carriers;
mod constants;
mod convert_token_linear;
mod fold_into_consumer;
mod fuse_pad;
mod merge_affine_pair;
mod merge_transposes;
mod shapes;
mod space_to_depth;
mod swap_transpose_affine;
mod unchanged;
mod write_matmul_as_gemm;

use updp_ir::Model;
use updp_testkit::{Micro, ops, prove_rewrite};

use crate::options::Options;
use crate::rule::AnyRule;
use crate::{Phase, run};

/// The result of a rule on a micro-model.
struct Outcome {
    model: Model,
    /// Operators in file order, joined by blanks.
    ops: String,
    /// Reasons of the refusals that stand at the end.
    reasons: Vec<&'static str>,
}

/// Runs `rule` alone under `options`.
fn alone_under<R: AnyRule + 'static>(micro: &Micro, rule: fn() -> R, options: &Options) -> Outcome {
    let mut reasons = Vec::new();
    let model = prove_rewrite(&micro.builder(), |model| {
        let phases = || vec![Phase { name: "test", rules: vec![Box::new(rule())] }];
        let log = run(model, &phases(), options, &mut |_, _| ()).expect("the rule runs");
        reasons = log.refusals.iter().map(|refusal| refusal.declined.reason).collect();
        let again = run(model, &phases(), options, &mut |_, _| ()).expect("the rule runs again");
        assert_eq!(again.rewrites, [], "the rule is not done after its first run");
    });
    Outcome { ops: ops(&model.graph).join(" "), model, reasons }
}

/// Runs `rule` alone without proof: for models that no runtime gives a meaning, and for IR 3, where
/// inputs that only initialize may be removed.
fn planned<R: AnyRule + 'static>(micro: &Micro, rule: fn() -> R) -> Outcome {
    let mut model = micro.build();
    let phases = [Phase { name: "test", rules: vec![Box::new(rule())] }];
    let log = run(&mut model, &phases, &Options::default(), &mut |_, _| ()).expect("the rule runs");
    let reasons = log.refusals.iter().map(|refusal| refusal.declined.reason).collect();
    Outcome { ops: ops(&model.graph).join(" "), model, reasons }
}

fn alone<R: AnyRule + 'static>(micro: &Micro, rule: fn() -> R) -> Outcome {
    alone_under(micro, rule, &Options::default())
}

impl Outcome {
    /// The graph as text.
    fn text(&self) -> String {
        updp_ir::text::to_graph_text(&self.model.graph)
    }

    /// The names of the initializers in file order.
    fn initializers(&self) -> Vec<&str> {
        let graph = &self.model.graph;
        graph.initializers().map(|value| graph.value(value).name()).collect()
    }
}

mod together {
    use updp_testkit::{Broadcast, Micro, Val, conv, ops, prove_rewrite};

    use crate::rewrite::{
        ConvertTokenLinear, FoldChannelAffine, FoldIntoConsumer, FusePad, MergeAffinePair,
        MergeTransposes, SwapTransposeAffine,
    };
    use crate::{Options, Phase, run};

    fn phases() -> Vec<Phase> {
        vec![
            Phase {
                name: "fold",
                rules: vec![Box::new(MergeTransposes), Box::new(FoldChannelAffine)],
            },
            Phase {
                name: "tidy",
                rules: vec![Box::new(SwapTransposeAffine), Box::new(MergeAffinePair)],
            },
            Phase { name: "forward", rules: vec![Box::new(FoldIntoConsumer), Box::new(FusePad)] },
            Phase { name: "convert", rules: vec![Box::new(ConvertTokenLinear)] },
        ]
    }

    fn compiled(m: &Micro) -> String {
        let model = prove_rewrite(&m.builder(), |model| {
            run(model, &phases(), &Options::default(), &mut |_, _| ()).expect("the rules run");
            let again = run(model, &phases(), &Options::default(), &mut |_, _| ());
            assert_eq!(again.expect("the rules run again").rewrites, []);
        });
        ops(&model.graph).join(" ")
    }

    fn image(build: impl FnOnce(&mut Micro, &Val) -> Val) -> String {
        let mut m = Micro::new(1);
        let x = m.input("x", &[4, 6, 7]);
        let y = build(&mut m, &x);
        m.output(&y);
        compiled(&m)
    }

    #[test]
    fn batch_norm_between_tokens_vanishes() {
        let mut m = Micro::new(1);
        let x = m.tokens("x", &[5, 5]);
        let y = m.matmul_add(&x, 5);
        let y = m.transpose(&y, &[0, 2, 1]);
        let y = m.bn(&y);
        let y = m.transpose(&y, &[0, 2, 1]);
        let y = m.unary("Relu", &y);
        m.output(&y);
        assert_eq!(compiled(&m), "MatMul Add Relu");
    }

    #[test]
    fn batch_norm_before_tokens_and_skip_becomes_mul_and_add() {
        let mut m = Micro::new(1);
        let x = m.tokens("x", &[5, 5]);
        let y = m.transpose(&x, &[0, 2, 1]);
        let y = m.bn(&y);
        let y = m.transpose(&y, &[0, 2, 1]);
        let z = m.matmul_add(&y, 5);
        let z = m.add(&z, &y);
        m.output(&z);
        assert_eq!(compiled(&m), "Mul Add MatMul Add Add");
    }

    #[test]
    fn affines_between_convs_fold_backwards() {
        let ops = image(|m, x| {
            let y = m.bn(x);
            let y = m.conv(&y, &conv(4).kernel(3).pad(1));
            let y = m.bn(&y);
            let y = m.with_constant("Mul", &y, Broadcast::Channel, false);
            let y = m.conv(&y, &conv(4).kernel(3).pad(1));
            m.bn(&y)
        });
        assert_eq!(ops, "Conv Add Conv");
    }

    #[test]
    fn two_batch_norms_before_a_padded_conv_make_one_border_map() {
        let ops = image(|m, x| {
            let y = m.bn(x);
            let y = m.bn(&y);
            let y = m.pad(&y, &[0, 0, 1, 1, 0, 0, 1, 1], "constant", None);
            m.conv(&y, &conv(4).kernel(3))
        });
        assert_eq!(ops, "Conv Add");
    }

    #[test]
    fn padding_before_batch_norm_needs_no_border_map() {
        let ops = image(|m, x| {
            let y = m.pad(x, &[0, 0, 1, 1, 0, 0, 1, 1], "constant", None);
            let y = m.bn(&y);
            m.conv(&y, &conv(4).kernel(3))
        });
        assert_eq!(ops, "Conv");
    }

    #[test]
    fn channel_last_matmul_with_norm_around_becomes_conv() {
        let ops = image(|m, x| {
            let y = m.bn(x);
            let y = m.transpose(&y, &[0, 2, 3, 1]);
            let y = m.matmul_add(&y, 5);
            let y = m.transpose(&y, &[0, 3, 1, 2]);
            m.bn(&y)
        });
        assert_eq!(ops, "Conv");
    }
}
