//! Tests of thin forms with a gate on the hidden channels, by execution.

use updp_ir::{Model, Node, Tensor};
use updp_testkit::{Micro, Val, conv, gemm, prove};

use super::*;

/// Hidden channels of the networks here.
const HIDDEN: usize = 16;

/// How a gate is spelled.
#[derive(Clone, Copy, Debug)]
enum Spelling {
    Convolutions,
    FullyConnected { plain: bool },
    Products,
    One,
}

/// An inverted residual whose gate reads the channels `kept` only.
fn network(opset: i64, spelling: Spelling, kept: &[usize]) -> Model {
    let mut m = Micro::new(1).opset(opset);
    let x = m.input("x", &[6, 9, 8]);
    let a = m.conv(&x, &conv(HIDDEN));
    let b = m.unary("Relu", &a);
    let b = m.conv(&b, &conv(HIDDEN).kernel(3).stride(2).pad(1).groups(HIDDEN));
    let b = m.unary("HardSigmoid", &b);
    let g = gate(&mut m, &b, spelling, kept);
    let b = m.apply(Node::new("Mul"), &[&b, &g]);
    let slopes = m.numbers(HIDDEN, 0.1, 0.4);
    let slope = m.weight("slopes", &[HIDDEN, 1, 1], &slopes);
    let b = Val { name: m.node(Node::new("PRelu"), &[&b.name, &slope]), ..b };
    let y = m.conv(&b, &conv(6));
    m.output(&y);
    m.build()
}

fn gate(m: &mut Micro, b: &Val, spelling: Spelling, kept: &[usize]) -> Val {
    let outputs = if matches!(spelling, Spelling::One) { HIDDEN } else { 4 };
    let drawn = m.numbers(outputs * HIDDEN, -0.8, 0.8);
    // [O, I]: nothing is read of the channels that go.
    let of = |at: usize| if kept.contains(&(at % HIDDEN)) { drawn[at] } else { 0.0 };
    let rows: Vec<f64> = (0..outputs * HIDDEN).map(of).collect();
    let columns: Vec<f64> =
        (0..outputs * HIDDEN).map(|at| rows[at % outputs * HIDDEN + at / outputs]).collect();
    let shape = m.constant("shape", &Tensor::from_i64(vec![4], &[0, 16, 1, 1]).expect("fits"));
    let mean = Node::new("ReduceMean").with("axes", vec![2_i64, 3]).with("keepdims", 0_i64);
    let back = |m: &mut Micro, g: &Val| Val {
        name: m.node(Node::new("Reshape"), &[&g.name, &shape]),
        ..b.clone()
    };
    match spelling {
        Spelling::Convolutions | Spelling::One => {
            let pooled = m.unary("GlobalAveragePool", b);
            let weight = m.weight("squeeze", &[outputs, HIDDEN, 1, 1], &rows);
            let mut g = m.conv_with(&pooled, &conv(outputs), &weight, None);
            if matches!(spelling, Spelling::Convolutions) {
                g = m.unary("Relu", &g);
                g = m.conv(&g, &conv(HIDDEN));
            }
            m.unary("HardSigmoid", &g)
        }
        Spelling::FullyConnected { plain } => {
            let pooled = Val { rank: 2, ..m.apply(mean, &[b]) };
            let (dims, values) =
                if plain { ([HIDDEN, outputs], &columns) } else { ([outputs, HIDDEN], &rows) };
            let weight = m.weight("squeeze", &dims, values);
            let node = Node::new("Gemm").with("transB", i64::from(!plain));
            let g = m.node(node, &[&pooled.name, &weight]);
            let g = m.unary("Relu", &Val { name: g, channels: outputs, ..pooled });
            let spec = if plain { gemm(HIDDEN).plain_weight() } else { gemm(HIDDEN) };
            let g = m.gemm(&g, &spec);
            let g = m.unary("Sigmoid", &g);
            back(m, &g)
        }
        Spelling::Products => {
            let pooled = Val { rank: 2, ..m.apply(mean, &[b]) };
            let weight = m.weight("squeeze", &[HIDDEN, outputs], &columns);
            let g = m.node(Node::new("MatMul"), &[&pooled.name, &weight]);
            let g = m.unary("Relu", &Val { name: g, channels: outputs, ..pooled });
            let g = m.matmul_add(&g, HIDDEN);
            let g = m.unary("Sigmoid", &g);
            back(m, &g)
        }
    }
}

fn thin_sites(model: &Model) -> Vec<Site> {
    let blocks = blocks_of(model).expect("no cycle");
    assert_eq!(blocks.len(), 1, "{blocks:?}");
    let all = with_context(model, |cx| sites(cx, &blocks[0], Shrink::Auto)).into_iter();
    all.filter(|(form, _)| form.is_thin()).map(|(_, site)| site.expect("it exists")).collect()
}

#[test]
fn a_gate_goes_along_with_its_channels() {
    let all = [
        Spelling::Convolutions,
        Spelling::FullyConnected { plain: false },
        Spelling::FullyConnected { plain: true },
        Spelling::Products,
        Spelling::One,
    ];
    for (opset, spelling) in [11, 13, 15, 12, 17].into_iter().zip(all) {
        for count in [12, 8, 4] {
            let kept: Vec<usize> = (0..count).map(|at| at * HIDDEN / count).collect();
            let model = network(opset, spelling, &kept);
            let sites = thin_sites(&model);
            assert_eq!(
                sites.iter().filter_map(|site| site.thin.map(|thin| thin.kept)).collect::<Vec<_>>(),
                [12, 8, 4]
            );
            let site = sites
                .iter()
                .find(|site| site.thin.is_some_and(|thin| thin.kept == count))
                .expect("offered");
            assert!(site.thin.is_some_and(|thin| thin.is_gated));
            let mut map = with_context(&model, |cx| thin_map(cx, site)).expect("it is there");
            for channel in (0..HIDDEN).filter(|channel| !kept.contains(channel)) {
                map.weight.index_axis_mut(ndarray::Axis(1), channel).fill(0.0);
            }
            let weight = map.weight.select(ndarray::Axis(1), &kept);
            let last = AffineMap { weight, ..map.clone() };
            let whole = Fitted::Thin { kept: (0..HIDDEN).collect(), last: map };
            let (mut dead, mut thin) = (model.clone(), model.clone());
            substitute(&mut dead, site, &whole).expect("all stay");
            substitute(&mut thin, site, &Fitted::Thin { kept, last }).expect("some stay");
            thin.validate().expect("well formed");
            prove(&dead, &thin);
            // The thin block is found and can be thinned again.
            let again = thin_sites(&thin);
            assert!(again.iter().all(|next| next.in_channels == count), "{spelling:?}: {again:?}");
            assert_eq!(again.is_empty(), count == 4);
        }
    }
}
