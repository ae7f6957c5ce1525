#!/usr/bin/env python3
"""Injects faults into the program and judges how it takes them; prints how many of each kind, and what went wrong.

    fault_injection.py PROGRAM [--faults N] [--seed N] [--kinds a,b] [--jobs a,b] [--exact]

Kinds: kills at random moments, damaged state of such a kill, two processes at once, a full disk, few descriptors, little
memory, damaged inputs, lost output. After every fault the program must have ended by itself in time, with an exit code
that docs/errors.md knows, without an internal error; an output that exists must be complete; and the same command must
succeed when the fault is gone. With --exact it must then write the same bytes as without the fault.
"""
import argparse
import collections
import os
import random
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
import zlib

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FIXTURES = os.path.join(ROOT, "fixtures")
MODEL = os.path.join(FIXTURES, "trained", "fmnist_vgg.bn.onnx")
IMAGES = os.path.join(FIXTURES, "fmnist_test_1000.npz")
DATA = ["--data", IMAGES, "--preprocess", "fashion-mnist", "--images", "100", "--threads", "1"]
# A run without a fault takes a few seconds, in a debug build too.
LONGEST_S = 180
SLOW_S = 20
CODES = {0, 1, 2, 3, 4, 5, 6, 7, 8}
MIB = 1 << 20


class Ended:
    """How a process ended: its code (negative for a signal, None after a kill for hanging) and what it said."""

    def __init__(self, code, text):
        self.code, self.text = code, text


class Faults:
    def __init__(self, program, folder, rng, is_exact, jobs):
        self.program, self.folder, self.rng, self.is_exact = program, folder, rng, is_exact
        self.jobs = jobs
        self.counts = collections.OrderedDict()
        self.failures = []
        self.number = 0
        self.references = {}
        self.last = ""

    # Running

    def scene(self):
        self.number += 1
        path = os.path.join(self.folder, f"s{self.number}")
        os.mkdir(path)
        return path

    def start(self, arguments, limits=None, stdout=subprocess.PIPE):
        def limit():
            for kind, value in (limits or {}).items():
                resource.setrlimit(kind, (value, resource.getrlimit(kind)[1]))

        environment = {key: value for key, value in os.environ.items() if key != "RUST_BACKTRACE"}
        return subprocess.Popen([self.program, *arguments], stdout=stdout, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
                                env=environment, preexec_fn=limit)

    def wait(self, process, longest=LONGEST_S):
        try:
            out, err = process.communicate(timeout=longest)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            return Ended(None, text(out) + text(err))
        return Ended(process.returncode, text(out) + text(err))

    def run(self, arguments, limits=None, stdout=subprocess.PIPE):
        return self.wait(self.start(arguments, limits, stdout))

    def job(self, name, scene):
        """A command, and the file that it writes."""
        out, work = os.path.join(scene, "o.onnx"), os.path.join(scene, "w")
        if name == "compile":
            return [MODEL, "-o", out, "--threads", "1"], out
        if name == "prune":
            table = os.path.join(scene, "latency.json")
            if "table" in self.references and not os.path.exists(table):
                shutil.copy(self.references["table"], table)
            return ["prune", MODEL, "-o", out, "--work", work, "--latency-table", table, *DATA,
                    "--prune", "1", "--force", "--probe-seconds", "0.02"], out
        return ["finetune", MODEL, "-o", out, "--work", work, *DATA, "--epochs", "2", "--batch-size", "16"], out

    def reference(self, name):
        """The bytes of a run without faults, and its seconds."""
        if name not in self.references:
            scene = self.scene()
            arguments, out = self.job(name, scene)
            for _ in range(2 if name == "prune" else 1):
                began = time.monotonic()
                ended = self.run(arguments)
                if ended.code != 0:
                    sys.exit(f"{name} fails without a fault: {ended.text}")
                seconds = time.monotonic() - began
                table = os.path.join(scene, "latency.json")
                if name == "prune" and "table" not in self.references:
                    self.references["table"] = table
            self.references[name] = (read(out), seconds)
        return self.references[name]

    # Judging

    def judge(self, kind, what, ended, codes=frozenset(CODES), may_abort=False):
        self.counts.setdefault(kind, [0, 0])[0] += 1
        self.last = f"{kind}, {what}"
        wrong = None
        is_aborted = may_abort and "error[C0000]: aborted" in ended.text
        if ended.code is None:
            wrong = "it hangs"
        elif ended.code not in codes:
            wrong = f"exit {ended.code}"
        elif ended.code == 1 and not is_aborted:
            wrong = "an internal error"
        elif "panicked" in ended.text or ("error[C0000]" in ended.text and not is_aborted):
            wrong = "an internal error"
        elif ended.code > 0 and "error[" not in ended.text:
            wrong = f"exit {ended.code} without an error"
        elif "\x1b" in ended.text:
            wrong = "it sends escape sequences"
        if wrong:
            self.fail(kind, what, wrong, ended.text)
        return not wrong

    def fail(self, kind, what, wrong, said=""):
        self.counts.setdefault(kind, [0, 0])[1] += 1
        last = said.strip().splitlines()[-3:]
        self.failures.append(f"{kind}: {what}: {wrong}: {' | '.join(last)}")

    def judge_output(self, kind, what, out):
        """An output that exists is complete."""
        if os.path.exists(out):
            ended = self.run(["inspect", out])
            if ended.code != 0:
                self.fail(kind, what, "the output is damaged", ended.text)

    def recovers(self, kind, what, name, scene):
        """The same command succeeds now that the fault is gone."""
        arguments, out = self.job(name, scene)
        ended = self.run(arguments)
        if ended.code != 0:
            self.fail(kind, what, f"the next run ends with {ended.code}", ended.text)
        elif self.is_exact and read(out) != self.reference(name)[0]:
            self.fail(kind, what, "the next run writes other bytes", ended.text)

    # Kinds of faults

    def kill(self):
        name = self.rng.choice(self.jobs)
        _, seconds = self.reference(name)
        scene = self.scene()
        arguments, out = self.job(name, scene)
        process = self.start(arguments)
        after = self.rng.uniform(0, seconds)
        time.sleep(after)
        what = f"{name} killed after {after:.2f} s"
        process.send_signal(self.rng.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT]))
        ended = self.wait(process)
        # Before the program has its handlers, a signal ends it as it ends any other.
        self.judge("kill", what, ended, CODES | {-9, -2, -15, 130, 128 + signal.SIGTERM})
        self.judge_output("kill", what, out)
        return name, scene, what

    def killed(self):
        name, scene, what = self.kill()
        self.recovers("kill", what, name, scene)
        shutil.rmtree(scene)

    def state(self):
        for _ in range(5):
            name, scene, what = self.kill()
            files = [os.path.join(at, file) for at, _, names in os.walk(os.path.join(scene, "w")) for file in names]
            if files:
                break
            shutil.rmtree(scene)
        else:
            return
        path = self.rng.choice(sorted(files))
        damage = self.damage(path)
        what = f"{what}; {os.path.basename(path)}: {damage}"
        arguments, out = self.job(name, scene)
        ended = self.run(arguments)
        self.judge("state", what, ended, {0, 2})
        self.judge_output("state", what, out)
        if self.is_exact and ended.code == 0 and read(out) != self.reference(name)[0]:
            self.fail("state", what, "damaged state changes the result", ended.text)
        shutil.rmtree(scene)

    def damage(self, path):
        data = bytearray(read(path))
        how = self.rng.choice(["flip", "flip", "cut", "empty", "noise", "longer", "number"])
        if not data and how in ("flip", "cut", "noise", "number"):
            how = "longer"
        if how == "flip":
            data[self.rng.randrange(len(data))] ^= 1 << self.rng.randrange(8)
        elif how == "cut":
            del data[self.rng.randrange(len(data)):]
        elif how == "empty":
            data.clear()
        elif how == "noise":
            at = self.rng.randrange(len(data))
            data[at:at + 64] = self.rng.randbytes(64)
        elif how == "longer":
            data += self.rng.randbytes(64)
        else:
            at = self.rng.randrange(len(data))
            data[at:at + 8] = struct.pack("<Q", self.rng.choice([2**63 - 1, 2**64 - 1, 2**40, 0]))[:max(1, min(8, len(data) - at))]
        with open(path, "wb") as file:
            file.write(data)
        return how

    def pair(self):
        name = self.rng.choice(self.jobs)
        self.reference(name)
        scene = self.scene()
        arguments, out = self.job(name, scene)
        first = self.start(arguments)
        time.sleep(self.rng.uniform(0, self.reference(name)[1] / 2))
        second = self.start(arguments)
        for which, process in (("first", first), ("second", second)):
            self.judge("pair", f"{name}, the {which}", self.wait(process), {0, 2})
        self.judge_output("pair", name, out)
        self.recovers("pair", name, name, scene)
        shutil.rmtree(scene)

    def limited(self, kind, limit, value, may_abort=False):
        name = self.rng.choice(self.jobs)
        self.reference(name)
        scene = self.scene()
        arguments, out = self.job(name, scene)
        what = f"{name} with {value}"
        ended = self.run(arguments, {limit: value})
        self.judge(kind, what, ended, may_abort=may_abort)
        self.judge_output(kind, what, out)
        if ended.code != 0 and os.path.exists(out):
            self.fail(kind, what, "an output in spite of an error", ended.text)
        self.recovers(kind, what, name, scene)
        shutil.rmtree(scene)

    def disk(self):
        self.limited("full disk", resource.RLIMIT_FSIZE, self.rng.choice([0, 1000, 10_000, 50_000, 70_000]))

    def descriptors(self):
        self.limited("descriptors", resource.RLIMIT_NOFILE, self.rng.randrange(4, 40))

    def memory(self):
        self.limited("memory", resource.RLIMIT_AS, self.rng.randrange(100, 1500) * MIB, may_abort=True)

    def inputs(self):
        scene = self.scene()
        tables = ["table"] if "prune" in self.jobs else []
        which = self.rng.choice(["model", "npz", "tar", "png", "toml", *tables])
        arguments, path = self.hostile(which, scene)
        damages = [self.damage(path) for _ in range(self.rng.randrange(1, 4))]
        ended = self.run(arguments, {resource.RLIMIT_AS: 12 << 30})
        self.judge("input", f"{which}: {', '.join(damages)}", ended)
        shutil.rmtree(scene)

    def hostile(self, which, scene):
        """A command, and the file that it reads and that is to be damaged."""
        evaluate = ["evaluate", MODEL, MODEL, "--preprocess", "fashion-mnist", "--images", "20", "--threads", "1", "--data"]
        path = os.path.join(scene, which)
        if which == "model":
            shutil.copy(MODEL, path)
            return [path, "-o", os.path.join(scene, "o.onnx"), "--threads", "1"], path
        if which == "npz":
            shutil.copy(IMAGES, path + ".npz")
            return [*evaluate, path + ".npz"], path + ".npz"
        if which == "tar":
            with tarfile.open(path + ".tar", "w", format=self.rng.choice([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])) as tar:
                for number in range(12):
                    image = os.path.join(scene, f"{number}.png")
                    write_png(image, number)
                    tar.add(image, arcname="n" * self.rng.choice([1, 150, 3000]) + f"/{number}.png")
            return [*evaluate, path + ".tar"], path + ".tar"
        if which == "png":
            folder = os.path.join(scene, "images")
            os.mkdir(folder)
            for number in range(12):
                write_png(os.path.join(folder, f"{number}.png"), number)
            return [*evaluate, folder], os.path.join(folder, "3.png")
        if which == "toml":
            with open(path, "w") as file:
                file.write('threads = 1\nmerge = "all"\nskip = ["fuse-pad"]\n')
            return [MODEL, "-o", os.path.join(scene, "o.onnx"), "--config", path], path
        self.reference("prune")
        shutil.copy(self.references["table"], os.path.join(scene, "latency.json"))
        return self.job("prune", scene)[0], os.path.join(scene, "latency.json")

    def lost(self):
        arguments = self.rng.choice([["inspect", MODEL], ["inspect", MODEL, "--json"], ["errors"], ["--help"], [MODEL, "-o", "-"]])
        with open("/dev/full", "wb") as full:
            self.judge("lost output", " ".join(arguments), self.run(arguments, stdout=full), {2})


def text(raw):
    return (raw or b"").decode("utf-8", "replace")


def read(path):
    with open(path, "rb") as file:
        return file.read()


def write_png(path, seed):
    rng = random.Random(seed)
    rows = b"".join(b"\0" + rng.randbytes(28) for _ in range(28))

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 28, 28, 8, 0, 0, 0, 0)
    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--faults", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", default="killed,state,pair,disk,descriptors,memory,inputs,lost")
    parser.add_argument("--jobs", default="compile,prune,train", help="what is disturbed; prune measures, which takes long on a busy machine")
    parser.add_argument("--exact", action="store_true", help="what follows a fault writes the same bytes as without it")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="starts no fault after this time")
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        faults = Faults(os.path.abspath(options.program), folder, random.Random(options.seed), options.exact,
                        options.jobs.split(","))
        kinds = [getattr(faults, kind) for kind in options.kinds.split(",")]
        for number in range(options.faults):
            if time.monotonic() - began > options.seconds:
                break
            at = time.monotonic()
            kinds[number % len(kinds)]()
            if time.monotonic() - at > SLOW_S:
                print(f"slow: {faults.last} took {time.monotonic() - at:.0f} s")
        print(f"{'kind':<14}{'faults':>8}{'failed':>8}")
        for kind, (count, failed) in faults.counts.items():
            print(f"{kind:<14}{count:>8}{failed:>8}")
        total = sum(count for count, _ in faults.counts.values())
        print(f"{total} faults in {time.monotonic() - began:.0f} s, seed {options.seed}, {len(faults.failures)} failures")
        for failure in faults.failures:
            print(f"FAIL {failure}")
    sys.exit(1 if faults.failures else 0)


if __name__ == "__main__":
    main()
