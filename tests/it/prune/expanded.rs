//! Expanded networks: settled from their files, with what files declare, and what is refused of them.

use updp_ir::{DataType, Model, Node};
use updp_passes::surgery::{self, Choice, Form, Shrink};
use updp_testkit::{Micro, Proof, conv};

use super::nets::{around, basic, choices, prepared};

/// A network with a basic block, expanded, and what was chosen for that.
fn expanded(seed: u64) -> (Model, Vec<Choice>) {
    let k3 = conv(6).kernel(3).pad(1);
    let micro = around(seed, 6, |m, x| basic(m, x, &k3, &k3));
    let mut model = prepared(&micro);
    let choices = choices(&model, Form::Conv);
    surgery::expand(&mut model, &choices, Shrink::Auto).expect("expands");
    (model, choices)
}

#[test]
fn an_expanded_network_can_be_settled_from_its_file() {
    let (mut expanded, choices) = expanded(96);
    let bytes = updp_testkit::encode(&expanded);
    let mut read = Model::decode(bytes.clone(), &mut updp_ir::no_external_data).expect("valid");
    assert_eq!(surgery::settle(&mut read).expect("settles"), 2);
    assert!(read.graph.find(surgery::LAMBDA_INPUT).is_none());
    let mut at_one = Model::decode(bytes, &mut updp_ir::no_external_data).expect("valid");
    surgery::fix_lambda(&mut at_one, 1.0).expect("it has a λ");
    Proof::default().assert(&at_one, &read);
    // Settling or expanding twice changes nothing more, or is refused.
    assert_eq!(surgery::settle(&mut read).expect("nothing to do"), 0);
    let error =
        surgery::expand(&mut expanded, &choices, Shrink::Auto).expect_err("expanded already");
    assert_eq!(error.code(), "P0009");
}

#[test]
fn what_a_file_declares_of_inner_sizes_goes_when_paddings_move() {
    let k3 = conv(6).kernel(3).pad(1);
    let mut micro = Micro::new(98).batch(2);
    let x = micro.input("x", &[6, 14, 14]);
    let a = micro.conv(&x, &k3);
    let gate = micro.unary("Sigmoid", &a);
    let a = micro.apply(Node::new("Mul"), &[&a, &gate]);
    let b = micro.conv(&a, &k3);
    let sum = micro.add(&b, &x);
    let y = micro.unary("Relu", &sum);
    micro.output(&y);
    // As the newer exporter writes it: the type of every value.
    let dims = [2.into(), 6.into(), 14.into(), 14.into()];
    for node in 1..=5 {
        let operators = ["conv", "sigmoid", "mul", "conv", "add"];
        let name = format!("{}_{node}_out", operators[node - 1]);
        micro.raw().value_info(&name, DataType::Float, &dims);
    }
    let moved = || {
        let mut model = prepared(&micro);
        let choices = choices(&model, Form::Conv);
        surgery::move_geometry(&mut model, &choices, Shrink::Auto).expect("it moves");
        surgery::expand(&mut model, &choices, Shrink::Auto).expect("it expands");
        model
    };
    // Both flows are computed here, so wrong declarations would stop the runtime.
    let (mut at_one, mut settled) = (moved(), moved());
    let inner = at_one.graph.find("sigmoid_2_out").expect("the names of the micro-model changed");
    assert_eq!(at_one.graph.value(inner).declared(), None, "it is larger than declared by now");
    surgery::fix_lambda(&mut at_one, 1.0).expect("it has a λ");
    surgery::settle(&mut settled).expect("it settles");
    Proof::default().assert(&at_one, &settled);
}

#[test]
fn a_lambda_that_something_else_reads_is_refused() {
    let (mut expanded, _) = expanded(97);
    let lambda = expanded.graph.find(surgery::LAMBDA_INPUT).expect("there");
    let (anchor, _) = expanded
        .graph
        .outputs()
        .next()
        .and_then(|output| expanded.graph.producer(output))
        .expect("a node");
    let fresh = updp_ir::NewResult::Fresh("stray".into());
    let (_, made) = expanded
        .graph
        .add_node(Node::new("Identity"), anchor, &[Some(lambda)], &[fresh])
        .expect("added");
    let stray = made[0].expect("a value");
    let ty = updp_ir::TensorType::fixed(DataType::Float, &[1]);
    expanded.graph.add_output(stray, &ty).expect("an output");
    let error = surgery::settle(&mut expanded).expect_err("λ is read elsewhere");
    assert_eq!(error.code(), "P0005");
}

#[test]
fn statistics_make_batch_norms_that_stand_in_for_norms() {
    let mut model = super::prepared("fmnist_deit.bn");
    let choices = choices(&model, Form::Conv);
    let expansion = surgery::expand(&mut model, &choices, Shrink::Auto).expect("expands");
    let replaced = expansion.norms.iter().filter(|norm| norm.replaces_norm).count();
    assert_eq!(replaced, 12, "two LayerNorms a layer");
    let missing =
        vec![surgery::InsertedNorm { result: "nowhere".into(), ..expansion.norms[0].clone() }];
    let error = surgery::calibration_model(&mut model, &missing).expect_err("not there");
    assert_eq!(error.code(), "P0006");
    let endless = surgery::Statistics {
        mean: vec![f64::INFINITY; expansion.norms[0].channels],
        variance: vec![1.0; expansion.norms[0].channels],
    };
    let error =
        surgery::set_statistics(&mut model, &expansion.norms, &[endless]).expect_err("infinite");
    assert_eq!(error.code(), "P0007");
}
