#!/usr/bin/env python3
"""Speed of training steps: this project's steps in ONNX Runtime and PyTorch, in turns; prints the table for docs/experiments/training-speed.md.

    scripts/step_speed.py STEP_SPEED [--net NAME]... [--rounds 30] [--batch 64] [--threads 2]
    scripts/step_speed.py STEP_SPEED --profile [--net NAME]...
    scripts/step_speed.py WRITE_STEP --device cuda [--batch 256]

Needs torch, torchvision, timm, onnx and onnxscript, and on CUDA also onnxruntime; run by hand. STEP_SPEED and WRITE_STEP are the built
examples of updp-autodiff; `--against` takes another build to compare with. Each network is torchvision's,
timm's or the CIFAR ResNet-20 at 32×32, exported by `torch.onnx.export` and trained with SGD (momentum 0.9) on one batch of drawn
images. The times are the first quartile of steps taken in turns, ours in a separate process that waits between its turns. With
one thread the times are processor times. The losses of the first step of all are printed if they differ. `--profile` instead prints a breakdown of our time.
On CUDA ten steps are timed together, the images are on the device, and each form of our step (plain, its kernels launched as one recorded graph, TF32)
is compared with PyTorch eager in f32, TF32 and under autocast in bf16.
"""

import argparse
import collections
import json
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn
from torch.nn import functional as F

from torch_reference import one_hot, write_step


class BasicBlock(nn.Module):
    def __init__(self, inner, outer, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(outer, outer, 3, 1, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(outer), nn.BatchNorm2d(outer)
        self.down = None
        if stride > 1:
            self.down = nn.Sequential(nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer))

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (self.down(x) if self.down else x))


def resnet20():
    widths = [(16, 16, 1)] * 3 + [(16, 32, 2)] + [(32, 32, 1)] * 2 + [(32, 64, 2)] + [(64, 64, 1)] * 2
    stem = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)]
    return nn.Sequential(*stem, *(BasicBlock(*width) for width in widths), *head)


def mobilenetv2():
    """Half the width, and the first two strides are 1, as is usual for 32×32."""
    from torchvision.models import mobilenet_v2

    net = mobilenet_v2(num_classes=10, width_mult=0.5, dropout=0.0)
    net.features[0][0].stride = (1, 1)
    net.features[2].conv[1][0].stride = (1, 1)
    return net


def convnext():
    """Three stages of two blocks at 16×16, 8×8 and 4×4; timm's own network has four and would end at 1×1."""
    from timm.layers import LayerNorm2d
    from timm.models.convnext import ConvNeXtBlock

    widths = (48, 96, 192)
    layers = [nn.Conv2d(3, widths[0], 2, 2), LayerNorm2d(widths[0])]
    for inner, width in zip((None, *widths), widths):
        layers += [LayerNorm2d(inner), nn.Conv2d(inner, width, 2, 2)] if inner else []
        layers += [ConvNeXtBlock(width), ConvNeXtBlock(width)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(widths[-1]), nn.Linear(widths[-1], 10)]
    return nn.Sequential(*layers, *head)


def deit():
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(img_size=32, patch_size=4, num_classes=10, embed_dim=192, depth=4, num_heads=3)


NETS = {"ResNet-20": resnet20, "MobileNetV2": mobilenetv2, "ConvNeXt": convnext, "DeiT": deit}


def export(net, images, path):
    """Writes the network in training form with BatchNormalizations in inference form."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net.eval()
        mode = torch.onnx.TrainingMode.PRESERVE
        torch.onnx.export(net, images, path, dynamo=False, opset_version=17, training=mode, input_names=["input"],
                          output_names=["output"], do_constant_folding=False)
    net.train()


class Child:
    """The step in a separate process, run the same way as in a training."""

    def __init__(self, binary, network, form, batch, threads, profile=None):
        command = [str(binary), str(network), "--form", form, "--batch", str(batch), "--threads", str(threads)]
        command += ["--profile", str(profile)] if profile else []
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.nodes = int(self.process.stdout.readline())
        self.profile = profile
        # The processor time of another process, as clock_getcpuclockid(3) numbers it on Linux.
        self.clock = (~self.process.pid << 3) | 2

    def step(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.loss = float(self.process.stdout.readline())

    def processor_time(self):
        return time.clock_gettime(self.clock)

    def finish(self):
        return self.loss

    def end(self):
        self.process.stdin.close()
        self.process.wait()


class Ours:
    """The step in ONNX Runtime: two sets of state buffers, and a binding from each to the other."""

    def __init__(self, step, states, names, images, targets, threads, rate, profile=None, cuda=None):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        if profile:
            options.enable_profiling, options.profile_file_prefix = True, str(profile)
        provider = "CPUExecutionProvider" if cuda is None else ("CUDAExecutionProvider", cuda)
        self.session = onnxruntime.InferenceSession(str(step), options, providers=[provider])
        device = "cpu" if cuda is None else "cuda"
        initial = {t.name: numpy_helper.to_array(t) for t in onnx.load(states).graph.initializer}
        self.is_recorded = bool(cuda and cuda.get("enable_cuda_graph"))
        self.runs = 0

        def value(array):
            return onnxruntime.OrtValue.ortvalue_from_numpy(array, device, 0)

        fed = {names["image"][0]: images, names["targets"][0]: targets,
               names["learning_rate"][0]: np.array(rate, np.float32)}
        fed = {name: value(np.ascontiguousarray(array)) for name, array in fed.items()}
        sets = [[value(initial[name].copy()) for name, _ in names["state"]] for _ in range(2)]
        self.bindings = []
        for come, go in (sets, sets[::-1]):
            binding = self.session.io_binding()
            for name, array in fed.items():
                binding.bind_ortvalue_input(name, array)
            for (name, output), old, new in zip(names["state"], come, go):
                binding.bind_ortvalue_input(name, old)
                binding.bind_ortvalue_output(output, new)
            self.loss = value(np.zeros((), np.float32))
            binding.bind_ortvalue_output(names["loss"][0], self.loss)
            options = onnxruntime.RunOptions()
            if self.is_recorded:
                options.add_run_config_entry("gpu_graph_id", str(len(self.bindings) + 1))
            self.bindings.append((binding, options))

    def step(self):
        binding, options = self.bindings[self.runs % 2]
        self.session.run_with_iobinding(binding, options)
        self.runs += 1

    def finish(self):
        return float(self.loss.numpy())


class Theirs:
    """The step in PyTorch, in one layout."""

    def __init__(self, net, images, targets, layout, rate, device="cpu", tf32=False, half=False):
        self.net = net.to(device).to(memory_format=layout)
        self.images = torch.from_numpy(images).to(device).to(memory_format=layout)
        self.targets = torch.from_numpy(targets).to(device)
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=rate, momentum=0.9)
        self.device, self.tf32, self.half = device, tf32, half

    def step(self):
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = self.tf32
        self.optimizer.zero_grad()
        with torch.autocast(self.device, torch.bfloat16, enabled=self.half):
            self.loss = F.cross_entropy(self.net(self.images), self.targets)
        self.loss.backward()
        self.optimizer.step()

    def processor_time(self):
        return time.thread_time()

    def finish(self):
        return float(self.loss.detach())


def profile(name, runner, rounds, top=24):
    """Milliseconds per step by operator, and by operator within the forward or backward pass of each kind of layer."""
    for _ in range(rounds):
        runner.step()
    if isinstance(runner, Child):
        runner.end()
        log = next(runner.profile.parent.glob(f"{runner.profile.name}*.json"))
    else:
        log = Path(runner.session.end_profiling())
    events = json.loads(log.read_text())
    kernels = [e for e in events if e.get("cat") == "Node" and e["name"].endswith("_kernel_time")]
    by_op, by_shape = collections.Counter(), collections.Counter()
    for event in kernels:
        a = event["args"]
        shapes = [next(iter(shape.values())) for shape in a.get("output_type_shape", [])]
        by_op[a["op_name"]] += event["dur"] / 1e3 / rounds
        by_shape[f"{a['op_name']} {shapes[:1]}"] += event["dur"] / 1e3 / rounds
    print(f"{name}: {sum(by_op.values()):.1f} ms, {len(kernels) // rounds} nodes")
    print("  " + ", ".join(f"{op} {ms:.1f}" for op, ms in by_op.most_common(14)))
    for key, ms in by_shape.most_common(top):
        print(f"  {ms:7.2f}  {key}")


# Provider options of each form of ours on a card.
CUDA = {
    "f32": {"use_tf32": "0"},
    "f32, recorded": {"use_tf32": "0", "enable_cuda_graph": "1"},
    "TF32": {"use_tf32": "1"},
    "TF32, recorded": {"use_tf32": "1", "enable_cuda_graph": "1"},
}
STEPS = 10


def measure_cuda(name, args, folder):
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    images = np.random.default_rng(7).standard_normal((args.batch, 3, 32, 32)).astype(np.float32)
    targets = one_hot(args.batch)
    path = folder / "net.onnx"
    nets = [NETS[name]() for _ in range(5)]
    for net in nets[1:]:
        net.load_state_dict(nets[0].state_dict())
    export(nets[0], torch.from_numpy(images), path)
    step, states, names = write_step(args.binary, path, folder, ["--batch", str(args.batch), "--target", "cuda"])
    runners = {}
    for form, options in CUDA.items():
        try:
            log = folder / f"profile {form}" if args.profile else None
            runners[f"ours {form}"] = Ours(step, states, names, images, targets, args.threads, 0.01, log, options)
        except Exception as error:  # noqa: BLE001 (the provider names what it does not support)
            print(f"{name}: {form}: {str(error)[:300]}")
    if args.profile:
        profile(f"{name}, f32", runners["ours f32"], args.rounds)
        return
    plain, last = torch.contiguous_format, torch.channels_last
    for form, net, layout, tf32, half in zip(
        ["f32 NCHW", "f32 NHWC", "TF32 NCHW", "TF32 NHWC", "bf16 NHWC"], nets, [plain, last, plain, last, last],
        [False, False, True, True, True], [False] * 4 + [True]):
        runners[f"torch {form}"] = Theirs(net, images, targets, layout, 0.01, "cuda", tf32, half)
    times, losses = {key: [] for key in runners}, {}
    for at in range(args.rounds + 2):
        for key, runner in runners.items():
            start = time.perf_counter()
            for _ in range(STEPS):
                runner.step()
            losses[key] = runner.finish()
            if at >= 2:
                times[key].append(time.perf_counter() - start)
    print(f"{name}, batch {args.batch}, loss after {STEPS * (args.rounds + 2)} steps in brackets:")
    for key, found in times.items():
        rate = args.batch * STEPS / np.percentile(found, 25)
        print(f"  {key:20} {rate:10.0f} images/s ({losses[key]:.4f})", flush=True)


def measure(name, args, folder):
    torch.manual_seed(0)
    # As the example draws them.
    images = np.sin(0.7 * np.arange(args.batch * 3 * 32 * 32)).astype(np.float32).reshape(args.batch, 3, 32, 32)
    targets = np.eye(10, dtype=np.float32)[np.arange(args.batch) % 10]
    net = NETS[name]()
    path = folder / "net.onnx"
    export(net, torch.from_numpy(images), path)
    runners = {}
    for at, binary in enumerate([args.binary, *args.against]):
        for form in args.form or FORMS:
            log = folder / f"profile {at} {form}" if args.profile else None
            runners[f"ours {at} {form}"] = Child(binary, path, form, args.batch, args.threads, log)
    if args.profile:
        for key, runner in runners.items():
            profile(f"{name}, {key}", runner, args.rounds)
        return
    if not args.only_ours:
        other = NETS[name]()
        other.load_state_dict(net.state_dict())
        runners["torch NCHW"] = Theirs(net, images, targets, torch.contiguous_format, 0.01)
        runners["torch NHWC"] = Theirs(other, images, targets, torch.channels_last, 0.01)
    times, losses = {key: [] for key in runners}, {}
    for at in range(args.rounds + 2):
        for key, runner in runners.items():
            # On a busy machine the processor time of the one thread says more than the clock on the wall.
            clock = runner.processor_time if args.threads == 1 else time.perf_counter
            start = clock()
            runner.step()
            if at >= 2:
                times[key].append(clock() - start)
            losses.setdefault(key, runner.finish())
    rates = {key: args.batch / np.percentile(found, 25) for key, found in times.items()}
    best = max((rate for key, rate in rates.items() if key.startswith("torch")), default=0)
    cells = [f"{rate:.0f}" for rate in rates.values()]
    ours = [rate for key, rate in rates.items() if key.startswith("ours")]
    if best:
        cells += [f"{rate / best:.2f}" for rate in ours]
    elif len(ours) > 1:
        cells += [f"{rate / ours[0]:.3f}" for rate in ours[1:]]
    print(f"| {name} | {' | '.join(cells)} |", flush=True)
    if max(losses.values()) - min(losses.values()) > 1e-4:
        print(f"the losses of the first step differ: {losses}")
    for runner in runners.values():
        if isinstance(runner, Child):
            runner.end()


# Forms of our step: standard operators, convolutions in ONNX Runtime's blocked layout, our operators as well.
FORMS = ["portable", "blocked", "cpu"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", type=Path, help="STEP_SPEED, on CUDA WRITE_STEP")
    parser.add_argument("--against", type=Path, action="append", default=[], help="another build of the example")
    parser.add_argument("--form", choices=FORMS, action="append", help="all unless told")
    parser.add_argument("--net", choices=NETS, action="append")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--only-ours", action="store_true", help="compare builds alone")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"torch {torch.__version__}, batch {args.batch}, {args.threads} threads; images/s: ours (each build: "
          f"{', '.join(args.form or FORMS)}), torch NCHW, NHWC; each of ours / best torch (ours alone: / the first of ours)")
    for name in args.net or NETS:
        with tempfile.TemporaryDirectory() as folder:
            (measure if args.device == "cpu" else measure_cuda)(name, args, Path(folder))


if __name__ == "__main__":
    sys.exit(main())
