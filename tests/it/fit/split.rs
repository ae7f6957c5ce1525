//! Pruning blocks that need one result of a node, where the rest of the network needs another: C2f, `ShuffleNet`.

use std::path::Path;

use updp_ir::{Node, Tensor};
use updp_testkit::{Micro, Val, conv, encode, gemm, op_counts, read_model};

use super::command::{arguments, data};
use crate::prune::command::succeeds;

/// A network with a Split into `sizes`; the part at `place` goes through a residual block. Where `is_kept`, the
/// network reads that part once more behind the block, as C2f does.
fn network(sizes: &[usize], place: usize, is_kept: bool) -> Micro {
    let mut m = Micro::new(41);
    let x = m.input("x", &[1, 28, 28]);
    let channels: usize = sizes.iter().sum();
    let y = m.conv(&x, &conv(channels).kernel(3).stride(2).pad(1));
    let y = m.unary("Relu", &y);
    let list: Vec<i64> = sizes.iter().map(|size| *size as i64).collect();
    m.constant("sizes", &Tensor::from_i64(vec![sizes.len()], &list).expect("fits"));
    let names: Vec<String> = (0..sizes.len()).map(|at| format!("part{at}")).collect();
    let results: Vec<&str> = names.iter().map(String::as_str).collect();
    let split = Node::new("Split").named("split").with("axis", 1_i64);
    m.raw().node(split, &[&y.name, "sizes"], &results);
    let part = Val { name: names[place].clone(), channels: sizes[place], ..y.clone() };
    let a = m.conv(&part, &conv(part.channels).kernel(3).pad(1));
    let a = m.unary("Relu", &a);
    let b = m.conv(&a, &conv(part.channels).kernel(3).pad(1));
    let sum = m.add(&part, &b);
    let made = m.unary("Relu", &sum);
    let mut all: Vec<&str> = results.clone();
    if is_kept {
        all.push(&made.name);
    } else {
        all[place] = &made.name;
    }
    let joined = m.node(Node::new("Concat").with("axis", 1_i64), &all);
    let joined_channels = channels + if is_kept { part.channels } else { 0 };
    let y = Val { name: joined, channels: joined_channels, ..y };
    let y = m.unary("GlobalAveragePool", &y);
    let y = Val { rank: 2, ..m.unary("Flatten", &y) };
    let y = m.gemm(&y, &gemm(10));
    m.output(&y);
    m
}

#[test]
fn a_block_behind_one_result_of_a_split_is_pruned() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (model, output, data) = (path("model.onnx"), path("out.onnx"), data());
    for (sizes, place, is_kept) in
        [(&[4, 4][..], 1, false), (&[4, 6], 0, false), (&[3, 4, 5], 1, true), (&[4, 4], 1, true)]
    {
        let micro = network(sizes, place, is_kept);
        std::fs::write(&model, encode(&micro.build())).expect("written");
        let more = ["--prune", "1", "--force", "--allow-low-accuracy"];
        succeeds(&arguments(&model, &output, &data, &more));
        let before = op_counts(&micro.build().graph)["Conv"];
        let after = op_counts(&read_model(Path::new(&output)).graph)["Conv"];
        assert!(after < before, "{sizes:?} at {place}: {before} convs, then {after}");
    }
}
