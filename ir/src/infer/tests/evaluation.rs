//! Tests evaluated operators against results worked out by hand.

use super::{LIMIT, bools, f32s, i64s, run};
use crate::attribute::AttributeValue;
use crate::dtype::DataType;
use crate::infer::evaluate;
use crate::node::Node;
use crate::tensor::Tensor;

fn matrix() -> Tensor {
    i64s(&[2, 3], &[1, 2, 3, 4, 5, 6])
}

fn ints(values: &[i64]) -> AttributeValue {
    values.to_vec().into()
}

#[test]
fn reads_every_form_of_constant() {
    let value = |node: Node| run(&node, 13, &[]);
    let constant = || Node::new("Constant");
    assert_eq!(value(constant().with("value", matrix())), Some(matrix()));
    assert_eq!(value(constant().with("value_int", 7_i64)), Some(i64s(&[], &[7])));
    assert_eq!(value(constant().with("value_ints", ints(&[]))), Some(i64s(&[0], &[])));
    assert_eq!(value(constant().with("value_float", 0.5_f32)), Some(f32s(&[], &[0.5])));
    let floats = AttributeValue::Floats(vec![1.0, 2.0]);
    assert_eq!(value(constant().with("value_floats", floats)), Some(f32s(&[2], &[1.0, 2.0])));
    let text = value(constant().with("value_string", "ab")).expect("a string scalar");
    assert_eq!((text.dtype(), text.strings().len()), (DataType::String, 1));
    assert_eq!(value(constant()), None);
}

#[test]
fn writes_out_the_zeros_of_a_sparse_constant() {
    let part = |tensor: &Tensor| Some(tensor.proto().clone());
    let mut node = Node::new("Constant").with("sparse_value", 0_i64);
    let sparse = crate::proto::SparseTensorProto {
        values: part(&f32s(&[2], &[5.0, 6.0])),
        indices: part(&i64s(&[2, 2], &[0, 1, 1, 0])),
        dims: vec![2, 2],
    };
    node.proto.attribute[0].sparse_tensor = Some(sparse);
    assert_eq!(run(&node, 13, &[]), Some(f32s(&[2, 2], &[0.0, 5.0, 6.0, 0.0])));
    if let Some(sparse) = &mut node.proto.attribute[0].sparse_tensor {
        sparse.dims = vec![1 << 40, 1 << 20];
    }
    assert_eq!(run(&node, 13, &[]), None);
}

#[test]
fn slices_backwards_and_clamps() {
    let slice = |spec: [i64; 3], axis: i64| {
        let [start, end, step] = spec.map(|v| i64s(&[1], &[v]));
        run(&Node::new("Slice"), 13, &[&matrix(), &start, &end, &i64s(&[1], &[axis]), &step])
    };
    assert_eq!(slice([0, i64::MAX, 2], 1), Some(i64s(&[2, 2], &[1, 3, 4, 6])));
    assert_eq!(slice([-1, i64::MIN, -1], -1), Some(i64s(&[2, 3], &[3, 2, 1, 6, 5, 4])));
    assert_eq!(slice([i64::MAX, i64::MIN, -2], 1), Some(i64s(&[2, 2], &[3, 1, 6, 4])));
    assert_eq!(slice([-1, -3, -1], 1), Some(i64s(&[2, 2], &[3, 2, 6, 5])));
    assert_eq!(slice([1, 1, 1], 0), Some(i64s(&[0, 3], &[])));
    assert_eq!(slice([5, 9, 1], 0), Some(i64s(&[0, 3], &[])));
    assert_eq!(slice([1, 2, i64::MAX], 0), Some(i64s(&[1, 3], &[4, 5, 6])));
    assert_eq!(slice([1, i64::MIN, i64::MIN], 0), Some(i64s(&[1, 3], &[4, 5, 6])));
    assert_eq!(slice([0, 1, 0], 0), None);
    assert_eq!(slice([0, 1, 1], 2), None);
    let old = Node::new("Slice").with("starts", ints(&[1])).with("ends", ints(&[1000]));
    assert_eq!(run(&old, 9, &[&matrix()]), Some(i64s(&[1, 3], &[4, 5, 6])));
}

#[test]
fn moves_elements_of_any_width() {
    let perm = Node::new("Transpose").with("perm", ints(&[1, 0]));
    assert_eq!(run(&perm, 13, &[&matrix()]), Some(i64s(&[3, 2], &[1, 4, 2, 5, 3, 6])));
    let bytes = Tensor::new(DataType::Float8E5M2, vec![2, 2], vec![1, 2, 3, 4].into());
    let turned = run(&Node::new("Transpose"), 13, &[&bytes.expect("four bytes")]);
    assert_eq!(turned.expect("a tensor").bytes().as_ref(), [1, 3, 2, 4]);
    let packed = Tensor::new(DataType::Int4, vec![2, 2], vec![1, 2].into()).expect("two bytes");
    assert_eq!(run(&Node::new("Transpose"), 13, &[&packed]), None);
    let not_a_permutation = Node::new("Transpose").with("perm", ints(&[0, 0]));
    assert_eq!(run(&not_a_permutation, 13, &[&matrix()]), None);
    let cube = i64s(&[2, 3, 2], &(0..12).collect::<Vec<_>>());
    let perm = Node::new("Transpose").with("perm", ints(&[1, 2, 0]));
    let turned = [0, 6, 1, 7, 2, 8, 3, 9, 4, 10, 5, 11];
    assert_eq!(run(&perm, 13, &[&cube]), Some(i64s(&[3, 2, 2], &turned)));
}

#[test]
fn transposes_matrices_wider_than_a_tile() {
    let (rows, columns) = (37_usize, 70_usize);
    let values: Vec<f32> = (0..rows * columns).map(|v| v as f32).collect();
    let turned: Vec<f32> =
        (0..rows * columns).map(|at| values[at % rows * columns + at / rows]).collect();
    let result = run(&Node::new("Transpose"), 13, &[&f32s(&[rows, columns], &values)]);
    assert_eq!(result, Some(f32s(&[columns, rows], &turned)));
}

#[test]
fn gathers_joins_and_splits() {
    let gather = |axis: i64, indices: &Tensor| {
        run(&Node::new("Gather").with("axis", axis), 13, &[&matrix(), indices])
    };
    assert_eq!(gather(0, &i64s(&[], &[-1])), Some(i64s(&[3], &[4, 5, 6])));
    assert_eq!(gather(1, &i64s(&[1, 2], &[2, 0])), Some(i64s(&[2, 1, 2], &[3, 1, 6, 4])));
    assert_eq!(gather(1, &i64s(&[0], &[])), Some(i64s(&[2, 0], &[])));
    assert_eq!(gather(1, &i64s(&[], &[3])), None);
    let concat = Node::new("Concat").with("axis", -1_i64);
    let column = i64s(&[2, 1], &[7, 8]);
    let joined = i64s(&[2, 4], &[1, 2, 3, 7, 4, 5, 6, 8]);
    assert_eq!(run(&concat, 13, &[&matrix(), &column]), Some(joined));
    assert_eq!(run(&concat, 13, &[&matrix(), &i64s(&[1, 1], &[7])]), None);
    let halves = Node::new("Split").with("axis", 1_i64).with("num_outputs", 2_i64);
    let parts = evaluate(&halves, 18, &[Some(&matrix())], LIMIT);
    assert_eq!(parts, Some(vec![i64s(&[2, 2], &[1, 2, 4, 5]), i64s(&[2, 1], &[3, 6])]));
    let old = Node::new("Split").with("split", ints(&[0, 2]));
    let parts = evaluate(&old, 11, &[Some(&matrix())], LIMIT);
    assert_eq!(parts, Some(vec![i64s(&[0, 3], &[]), matrix()]));
    let wrong = Node::new("Split").with("split", ints(&[1, 2]));
    assert_eq!(evaluate(&wrong, 11, &[Some(&matrix())], LIMIT), None);
}

#[test]
fn repeats_and_pads() {
    let expand = |shape: &[i64]| {
        run(&Node::new("Expand"), 13, &[&i64s(&[2, 1], &[1, 2]), &i64s(&[shape.len()], shape)])
    };
    assert_eq!(expand(&[1, 2]), Some(i64s(&[2, 2], &[1, 1, 2, 2])));
    assert_eq!(expand(&[2, 1, 1]), Some(i64s(&[2, 2, 1], &[1, 2, 1, 2])));
    assert_eq!(expand(&[3, 1]), None);
    assert_eq!(expand(&[2, 0]), Some(i64s(&[2, 0], &[])));
    let tile = run(&Node::new("Tile"), 13, &[&matrix(), &i64s(&[2], &[2, 1])]);
    assert_eq!(tile, Some(i64s(&[4, 3], &[1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6])));
    let pad = |pads: &[i64]| {
        let fill = i64s(&[], &[9]);
        run(&Node::new("Pad"), 13, &[&matrix(), &i64s(&[pads.len()], pads), &fill])
    };
    assert_eq!(pad(&[1, 0, 0, -1]), Some(i64s(&[3, 2], &[9, 9, 1, 2, 4, 5])));
    assert_eq!(pad(&[0, -1, 0, 1]), Some(i64s(&[2, 3], &[2, 3, 9, 5, 6, 9])));
    assert_eq!(pad(&[-3, 0, 0, 0]), None);
    let reflect = Node::new("Pad").with("mode", "reflect");
    assert_eq!(run(&reflect, 13, &[&matrix(), &i64s(&[4], &[0, 1, 0, 0])]), None);
    let by_axis = evaluate(
        &Node::new("Pad"),
        18,
        &[Some(&matrix()), Some(&i64s(&[2], &[0, 1])), None, Some(&i64s(&[1], &[-1]))],
        LIMIT,
    );
    assert_eq!(by_axis, Some(vec![i64s(&[2, 4], &[1, 2, 3, 0, 4, 5, 6, 0])]));
}

#[test]
fn reads_and_changes_dims() {
    let shape = Node::new("Shape").with("start", -1_i64);
    assert_eq!(run(&shape, 15, &[&matrix()]), Some(i64s(&[1], &[3])));
    assert_eq!(run(&Node::new("Size"), 13, &[&matrix()]), Some(i64s(&[], &[6])));
    let reshape = |shape: &[i64], node: Node| {
        Some(run(&node, 14, &[&matrix(), &i64s(&[shape.len()], shape)])?.dims().to_vec())
    };
    assert_eq!(reshape(&[0, -1, 1], Node::new("Reshape")), Some(vec![2, 3, 1]));
    assert_eq!(reshape(&[-1, -1], Node::new("Reshape")), None);
    assert_eq!(reshape(&[4, -1], Node::new("Reshape")), None);
    assert_eq!(reshape(&[0, 6], Node::new("Reshape").with("allowzero", 1_i64)), None);
    let flat = run(&Node::new("Flatten").with("axis", 0_i64), 13, &[&matrix()]);
    assert_eq!(flat.expect("a tensor").dims(), [1, 6]);
    let unsqueeze = run(&Node::new("Unsqueeze"), 13, &[&matrix(), &i64s(&[2], &[-1, 0])]);
    let wide = unsqueeze.expect("a tensor");
    assert_eq!(wide.dims(), [1, 2, 3, 1]);
    let squeeze = Node::new("Squeeze").with("axes", ints(&[0]));
    assert_eq!(run(&squeeze, 11, &[&wide]).expect("a tensor").dims(), [2, 3, 1]);
    assert_eq!(run(&Node::new("Squeeze"), 13, &[&wide]), Some(matrix()));
    assert_eq!(run(&squeeze, 11, &[&matrix()]), None);
}

#[test]
fn refuses_results_above_the_limit() {
    let huge = i64s(&[2], &[1 << 40, 1 << 40]);
    let filled = Node::new("ConstantOfShape");
    assert_eq!(run(&filled, 13, &[&huge]), None);
    assert_eq!(run(&filled, 13, &[&i64s(&[2], &[1 << 30, 1])]), None);
    assert_eq!(run(&filled, 13, &[&i64s(&[2], &[-1, 1])]), None);
    assert_eq!(run(&filled, 13, &[&i64s(&[2], &[0, 2])]), Some(f32s(&[0, 2], &[])));
    assert_eq!(run(&filled, 13, &[&i64s(&[0], &[])]), Some(f32s(&[], &[0.0])));
    assert_eq!(run(&Node::new("Expand"), 13, &[&i64s(&[], &[1]), &huge]), None);
    assert_eq!(run(&Node::new("Tile"), 13, &[&matrix(), &huge]), None);
    let pads = i64s(&[4], &[1 << 40, 0, 0, 1 << 30]);
    assert_eq!(run(&Node::new("Pad"), 13, &[&matrix(), &pads]), None);
    let (zero, one, most) = (i64s(&[], &[0]), i64s(&[], &[1]), i64s(&[], &[i64::MAX]));
    assert_eq!(run(&Node::new("Range"), 13, &[&zero, &most, &one]), None);
    let (row, column) = (i64s(&[1, 1024], &[1; 1024]), i64s(&[1024, 1], &[1; 1024]));
    assert_eq!(run(&Node::new("Add"), 13, &[&row, &column]), None);
}

#[test]
fn casts_within_range_only() {
    let cast = |tensor: &Tensor, to: DataType| {
        run(&Node::new("Cast").with("to", i64::from(to.code())), 13, &[tensor])
    };
    assert_eq!(
        cast(&f32s(&[3], &[-1.9, 2.9, 0.0]), DataType::Int64),
        Some(i64s(&[3], &[-1, 2, 0]))
    );
    assert_eq!(cast(&f32s(&[1], &[f32::NAN]), DataType::Int64), None);
    assert_eq!(cast(&f32s(&[1], &[1e19]), DataType::Int64), None);
    assert_eq!(cast(&i64s(&[1], &[300]), DataType::Uint8), None);
    assert_eq!(cast(&f32s(&[2], &[0.5, 0.0]), DataType::Bool), Some(bools(&[2], &[1, 0])));
    let half = cast(&f32s(&[1], &[1.0 + 1.0 / 2048.0]), DataType::Float16).expect("a half");
    assert_eq!(half.to_f64(), Some(vec![1.0]));
    assert_eq!(cast(&half, DataType::Float), Some(f32s(&[1], &[1.0])));
    assert_eq!(
        cast(&i64s(&[1], &[16_777_217]), DataType::Float),
        Some(f32s(&[1], &[16_777_216.0]))
    );
    assert_eq!(cast(&i64s(&[1], &[1]), DataType::String), None);
    let like = run(&Node::new("CastLike"), 15, &[&matrix(), &f32s(&[], &[0.0])]);
    assert_eq!(like.map(|t| t.dtype()), Some(DataType::Float));
}
