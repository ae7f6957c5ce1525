"""PyTorch references for training steps: gradients, and losses beside those of this project.

    scripts/torch_reference.py gradients [--fixtures fixtures]
    scripts/torch_reference.py losses WRITE_STEP MODEL.onnx... [--fixtures fixtures] [--double]

Needs torch, onnx and numpy; `losses` also needs onnxruntime. Run it by hand; the tests never do. A network is an ONNX file, run in
PyTorch operator by operator, with the statistics of the batch in BatchNormalizations, and differentiated by PyTorch.

`gradients` writes fixtures/gradients/*.onnx: models without nodes whose initializers are the loss and the gradient of
each parameter by name, computed in double precision. Relu and Clip become Softplus there, so that rounding cannot
cross a kink. `losses` trains each model with both programs, on one batch, in single precision and with its own activations;
WRITE_STEP is the built example `write_step` of updp-autodiff.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch.nn import functional as F

SMOOTHING = 0.1
# One exported miniature of each family; those with constants of their batch size keep it.
GRADIENTS = {
    "tv_vgg_mini.legacy13-preserve": 8,
    "tv_resnet18_mini.legacy17-preserve": 8,
    "timm_repvgg_mini.legacy17-preserve": 8,
    "timm_mobilenetv2_mini.legacy17-preserve": 8,
    "timm_convnext_mini.legacy17-eval": 8,
    "timm_convnext_atto_mini.legacy17-eval": 8,
    "timm_deit_mini.legacy17-eval-dyn": 8,
}
TYPES = {1: torch.float32, 6: torch.int32, 7: torch.int64, 9: torch.bool, 11: torch.float64}


class Network:
    """An ONNX model as a differentiable function of its float initializers, single numbers aside."""

    def __init__(self, path, dtype, smooth):
        model = onnx.load(path)
        self.nodes, self.dtype, self.smooth = model.graph.node, dtype, smooth
        self.input, self.output = model.graph.input[0].name, model.graph.output[0].name
        self.values, self.parameters = {}, {}
        statistics = {name for n in self.nodes if n.op_type == "BatchNormalization" for name in n.input[3:5]}
        for tensor in model.graph.initializer:
            self._constant(tensor.name, tensor, tensor.name, statistics)
        for node in self.nodes:
            if node.op_type == "Constant":
                name = node.output[0]
                self._constant(name, attributes(node)["value"], f"{name}.weight", statistics)
        self.own = self._own_scales_and_shifts()

    def _own_scales_and_shifts(self):
        """Copies for BatchNormalizations whose scale or shift is shared, as training steps have: by place."""
        aliases = {n.output[0]: n.input[0] for n in self.nodes if n.op_type == "Identity"}
        places = {}
        for at, node in enumerate(self.nodes):
            if node.op_type == "BatchNormalization":
                for slot in (1, 2):
                    source = aliases.get(node.input[slot], node.input[slot])
                    places.setdefault(source, []).append((at, slot))
        own = {}
        for source, readers in places.items():
            for at, slot in readers if len(readers) > 1 else []:
                copy = self.values[source].detach().clone().requires_grad_()
                own[at, slot] = self.parameters[f"{source}.{at}.own"] = copy
        return own

    def _constant(self, name, tensor, parameter, statistics):
        value = torch.from_numpy(numpy_helper.to_array(tensor).copy())
        if value.is_floating_point():
            value = value.to(self.dtype)
            if value.numel() > 1 and name not in statistics:
                self.parameters[parameter] = value.requires_grad_()
        self.values[name] = value

    def __call__(self, images):
        values = dict(self.values)
        values[self.input] = images
        for at, node in enumerate(self.nodes):
            if node.op_type == "Constant":
                continue
            operands = [values[name] if name else None for name in node.input]
            operands = [self.own.get((at, slot), value) for slot, value in enumerate(operands)]
            result = OPERATORS[node.op_type](self, attributes(node), *operands)
            results = result if isinstance(result, tuple) else (result,)
            values.update(zip(node.output, results))
        return values[self.output]


def attributes(node):
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


def is_symmetric(pads):
    return pads[: len(pads) // 2] == pads[len(pads) // 2 :]


def conv(net, a, x, weight, bias=None):
    pads = a.get("pads", [0] * 4)
    assert is_symmetric(pads) and a.get("auto_pad", b"NOTSET") == b"NOTSET"
    return F.conv2d(x, weight, bias, a["strides"], pads[:2], a["dilations"], a.get("group", 1))


def batch_norm(net, a, x, scale, bias, mean, var):
    return F.batch_norm(x, None, None, scale, bias, training=True, eps=a.get("epsilon", 1e-5))


def relu(net, a, x):
    return F.softplus(x) if net.smooth else F.relu(x)


def clip(net, a, x, low=None, high=None):
    if net.smooth and x.is_floating_point():
        return F.softplus(x)
    return torch.clamp(x, low, high)


def max_pool(net, a, x):
    pads = a.get("pads", [0] * 4)
    assert is_symmetric(pads) and not a.get("ceil_mode", 0)
    return F.max_pool2d(x, a["kernel_shape"], a["strides"], pads[:2])


def gemm(net, a, x, weight, bias):
    x = x.t() if a.get("transA", 0) else x
    weight = weight.t() if a.get("transB", 0) else weight
    return a.get("alpha", 1.0) * (x @ weight) + a.get("beta", 1.0) * bias


def slice_(net, a, x, starts, ends, axes=None, steps=None):
    axes = range(len(starts)) if axes is None else axes.tolist()
    steps = [1] * len(starts) if steps is None else steps.tolist()
    for start, end, axis, step in zip(starts.tolist(), ends.tolist(), axes, steps):
        at = range(*slice(start, end, step).indices(x.shape[axis]))
        x = x.index_select(axis, torch.tensor(list(at), dtype=torch.int64))
    return x


def gather(net, a, x, at):
    axis = a.get("axis", 0)
    found = x.index_select(axis, at.reshape(-1) % x.shape[axis])
    axis %= x.dim()
    return found.reshape(x.shape[:axis] + at.shape + x.shape[axis + 1 :])


def reshape(net, a, x, dims):
    return x.reshape([x.shape[i] if d == 0 else d for i, d in enumerate(dims.tolist())])


def squeeze(net, a, x, axes):
    for axis in sorted((axis % x.dim() for axis in axes.tolist()), reverse=True):
        x = x.squeeze(axis)
    return x


def unsqueeze(net, a, x, axes):
    for axis in sorted(axis % (x.dim() + len(axes)) for axis in axes.tolist()):
        x = x.unsqueeze(axis)
    return x


def constant_of_shape(net, a, dims):
    value = torch.from_numpy(numpy_helper.to_array(a["value"]).copy())
    return value.expand(dims.tolist())


def cast(net, a, x):
    dtype = TYPES[a["to"]]
    return x.to(net.dtype if dtype.is_floating_point else dtype)


def pad(net, a, x, pads, value=None):
    pads = pads.tolist()
    ends = list(zip(pads[: x.dim()], pads[x.dim() :]))
    return F.pad(x, [p for pair in reversed(ends) for p in pair], value=0.0 if value is None else value.item())


OPERATORS = {
    "Add": lambda net, a, x, y: x + y,
    "BatchNormalization": batch_norm,
    "Cast": cast,
    "Clip": clip,
    "Concat": lambda net, a, *x: torch.cat(x, a["axis"]),
    "ConstantOfShape": constant_of_shape,
    "Conv": conv,
    "Div": lambda net, a, x, y: x / y if x.is_floating_point() else x // y,
    "Equal": lambda net, a, x, y: x == y,
    "Erf": lambda net, a, x: torch.erf(x),
    "Expand": lambda net, a, x, dims: x * torch.ones(dims.tolist(), dtype=x.dtype),
    "Flatten": lambda net, a, x: x.flatten(a.get("axis", 1)),
    "Gather": gather,
    "Gemm": gemm,
    "GlobalAveragePool": lambda net, a, x: x.mean((2, 3), keepdim=True),
    "Identity": lambda net, a, x: x,
    "LayerNormalization": lambda net, a, x, s, b: F.layer_norm(x, x.shape[a.get("axis", -1) :], s, b, a["epsilon"]),
    "MatMul": lambda net, a, x, y: x @ y,
    "MaxPool": max_pool,
    "Mul": lambda net, a, x, y: x * y,
    "Pad": pad,
    "Relu": relu,
    "Reshape": reshape,
    "Shape": lambda net, a, x: torch.tensor(x.shape)[a.get("start", 0) : a.get("end")],
    "Slice": slice_,
    "Softmax": lambda net, a, x: torch.softmax(x, a["axis"]),
    "Split": lambda net, a, x, sizes: torch.split(x, sizes.tolist(), a.get("axis", 0)),
    "Sqrt": lambda net, a, x: torch.sqrt(x),
    "Squeeze": squeeze,
    "Sub": lambda net, a, x, y: x - y,
    "Transpose": lambda net, a, x: x.permute(a["perm"]),
    "Unsqueeze": unsqueeze,
    "Where": lambda net, a, c, x, y: torch.where(c, x, y),
}


def loss_of(network, images, targets):
    return F.cross_entropy(network(images), targets, label_smoothing=SMOOTHING)


def one_hot(batch):
    """Image i has class (7·i + 3) mod 10, as in the tests."""
    targets = np.zeros((batch, 10), np.float32)
    targets[range(batch), [(at * 7 + 3) % 10 for at in range(batch)]] = 1.0
    return targets


def tensors_file(tensors):
    initializers = [numpy_helper.from_array(value, name) for name, value in tensors.items()]
    graph = onnx.helper.make_graph([], "gradients", [], [], initializers)
    opsets = [onnx.helper.make_opsetid("", 17)]
    return onnx.helper.make_model(graph, ir_version=8, opset_imports=opsets, producer_name="torch_reference.py")


def gradients(args):
    folder = args.fixtures / "gradients"
    folder.mkdir(exist_ok=True)
    images = np.fromfile(args.fixtures / "exported/input_64.f32", "<f4").reshape(8, 3, 32, 32)
    for name, batch in GRADIENTS.items():
        network = Network(args.fixtures / f"exported/{name}.onnx", torch.float64, smooth=True)
        inputs = torch.from_numpy(images[:batch]).double()
        loss = loss_of(network, inputs, torch.from_numpy(one_hot(batch)).double())
        loss.backward()
        found = {"loss": loss.detach()}
        found.update((n, p.grad) for n, p in network.parameters.items() if p.grad is not None)
        numbers = {n: g.to(torch.float32).numpy() for n, g in found.items()}
        onnx.save(tensors_file(numbers), folder / f"{name}.onnx")
        print(f"{name}: loss {loss.item():.6f}, {len(found) - 1} gradients")


def batch_for(path, fixtures, count, dims):
    if path.name.startswith("fmnist"):
        data = np.load(fixtures / "fmnist_test_1000.npz")
        return data["input"][:count], np.eye(10, dtype=np.float32)[data["labels"][:count]]
    images = np.random.default_rng(7).standard_normal((count, *dims)).astype(np.float32)
    return images, one_hot(count)


def ours(step, names, states, images, targets, args):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(step), options)
    feed = {t.name: numpy_helper.to_array(t) for t in onnx.load(states).graph.initializer}
    feed |= {names["image"][0]: images, names["targets"][0]: targets}
    feed[names["learning_rate"][0]] = np.array(args.rate, np.float32)
    wanted = [names["loss"][0]] + [output for _, output in names["state"]]
    losses = []
    for _ in range(args.steps):
        loss, *after = session.run(wanted, feed)
        losses.append(float(loss))
        feed.update(zip((name for name, _ in names["state"]), after))
    return losses


def write_step(binary, model, folder, options):
    """Runs the example; gives the step, its initial states, and its names by kind."""
    step, states = folder / "step.onnx", folder / "states.onnx"
    command = [str(binary), str(model), str(step), str(states), *options]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    names = {}
    for line in listed.splitlines():
        kind, *fields = line.split("\t")
        if kind == "state":
            names.setdefault(kind, []).append(fields)
        else:
            names[kind] = fields
    return step, states, names


def train(path, dtype, images, targets, args):
    network = Network(path, dtype, smooth=False)
    images, targets = (torch.from_numpy(values).to(dtype) for values in (images, targets))
    # Shared parameters that have been copied get no gradient and stay unchanged.
    optimizer = torch.optim.SGD(list(network.parameters.values()), lr=args.rate, momentum=0.9)
    found = []
    for _ in range(args.steps):
        optimizer.zero_grad()
        loss = loss_of(network, images, targets)
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


def losses(args):
    print("| network | PyTorch, steps 1, 2, 5, 10, last | ours | ours to PyTorch, first 5, all | PyTorch to its own double |")
    for path in args.models:
        declared = onnx.load(path, load_external_data=False).graph.input[0].type.tensor_type.shape.dim
        dims = [dim.dim_value for dim in declared[1:]]
        images, targets = batch_for(path, args.fixtures, args.batch, dims)
        theirs = train(path, torch.float32, images, targets, args)
        exact = train(path, torch.float64, images, targets, args) if args.double else None
        with tempfile.TemporaryDirectory() as folder:
            options = ["--batch", str(args.batch), "--smoothing", str(SMOOTHING), "--target", args.target]
            step, states, names = write_step(args.write_step, path, Path(folder), options)
            own = ours(step, names, states, images, targets, args)
        shown = [at for at in (0, 1, 4, 9) if at < len(own)] + [len(own) - 1]
        curves = [" ".join(f"{curve[at]:.4f}" for at in shown) for curve in (theirs, own)]
        apart = f"{furthest(own[:5], theirs):.1e}, {furthest(own, theirs):.1e}"
        double = f"{furthest(theirs[:5], exact):.1e}, {furthest(theirs, exact):.1e}" if exact else "–"
        print(f"| {path.name} | {curves[0]} | {curves[1]} | {apart} | {double} |")


def furthest(found, expected):
    """The largest relative difference."""
    return max(abs(a - b) / abs(b) for a, b in zip(found, expected))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for run in (gradients, losses):
        command = commands.add_parser(run.__name__)
        command.set_defaults(run=run)
        command.add_argument("--fixtures", type=Path, default=Path("fixtures"))
        if run is losses:
            command.add_argument("write_step", type=Path)
            command.add_argument("models", type=Path, nargs="+")
            command.add_argument("--steps", type=int, default=20)
            command.add_argument("--batch", type=int, default=64)
            command.add_argument("--rate", type=float, default=0.02)
            command.add_argument("--target", choices=["portable", "cpu"], default="portable")
            command.add_argument("--double", action="store_true", help="PyTorch in double precision too; slow")
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    sys.exit(main())
