"""Tests of the installed module on the fixtures of the repository: `python -m unittest discover python/tests`.

FIXTURES names their folder. No compiler is needed.
"""

from __future__ import annotations

import copy
import io
import logging
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
import types
import unittest
import unittest.mock
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import updp_compile
from updp_compile import _jobs, _native, _progress, _run

FIXTURES = Path(os.environ["FIXTURES"])
REPVGG = FIXTURES / "trained" / "fmnist_repvgg.bn.onnx"
RESNET = FIXTURES / "trained" / "fmnist_resnet.bn.onnx"
TABLE = FIXTURES / "fmnist_test_1000.npz"


def images() -> tuple[np.ndarray, np.ndarray]:
    table = np.load(TABLE)
    return table["input"], table["labels"]


def outputs(model: bytes | str, pixels: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model)
    return session.run(None, {session.get_inputs()[0].name: pixels})[0]


class Compiling(unittest.TestCase):
    def test_the_result_comes_in_kind_and_computes_the_same(self) -> None:
        pixels = images()[0][:16]
        expected = outputs(str(REPVGG), pixels)
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "out.onnx"
            path, report = updp_compile.compile(REPVGG, output=target)
            self.assertEqual(path, target)
            self.assertEqual(report.output.path, str(target))
            np.testing.assert_allclose(outputs(str(path), pixels), expected, atol=1e-3)
            self.assertEqual([each.name for each in Path(folder).iterdir()], ["out.onnx"])
        from_path, _ = updp_compile.compile(str(REPVGG))
        from_bytes, report = updp_compile.compile(REPVGG.read_bytes())
        from_proto, _ = updp_compile.compile(onnx.load(REPVGG))
        self.assertIsInstance(from_path, bytes)
        self.assertIsInstance(from_proto, onnx.ModelProto)
        self.assertEqual(from_path, from_bytes)
        self.assertEqual(from_proto, onnx.ModelProto.FromString(from_bytes))
        self.assertLess(report.output.nodes, report.input.nodes)
        self.assertEqual((report.input.path, report.output.path), ("<bytes>", "<result>"))
        self.assertEqual(report.verification.status, "passed")
        self.assertIn("ONNX Runtime", str(report.verification.runtime))
        np.testing.assert_allclose(outputs(from_bytes, pixels), expected, atol=1e-3)

    def test_options_of_every_kind_arrive(self) -> None:
        model, report = updp_compile.compile(
            RESNET, input_shape={"input": [1, 1, 28, 28]}, target="ort", skip=["eliminate-identity"], check=1, merge="all"
        )
        proto = onnx.ModelProto.FromString(model)
        dims = [each.dim_value for each in proto.graph.input[0].type.tensor_type.shape.dim]
        self.assertEqual(dims, [1, 1, 28, 28])
        self.assertEqual(report.deploy.target, "ort")
        self.assertEqual(report.verification.runs, 1)

    def test_the_input_is_only_overwritten_where_that_is_meant(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            path.write_bytes(REPVGG.read_bytes())
            with self.assertRaises(updp_compile.UsageError) as caught:
                updp_compile.compile(path, output=path)
            self.assertEqual(caught.exception.code, "C0023")
            self.assertEqual(path.read_bytes(), REPVGG.read_bytes())
            written, report = updp_compile.compile(path, output=None, in_place=True)
            self.assertEqual(written, path)
            self.assertLess(report.output.nodes, report.input.nodes)
            self.assertEqual(len(onnx.load(path).graph.node), report.output.nodes)


class Errors(unittest.TestCase):
    def test_wrong_options_name_the_right_ones(self) -> None:
        with self.assertRaisesRegex(TypeError, "speed_up.*did you mean 'speedup'"):
            updp_compile.prune(RESNET, TABLE, speed_up=1.2)  # type: ignore[call-overload]
        with self.assertRaises(updp_compile.UsageError) as caught:
            updp_compile.prune(RESNET, TABLE, speedup=0.5)
        self.assertEqual(caught.exception.code, "C0001")
        self.assertIn("--speedup", caught.exception.message)
        self.assertIn("write _ for -", caught.exception.cure)

    def test_a_broken_model_is_a_model_error(self) -> None:
        with self.assertRaises(updp_compile.ModelError) as caught:
            updp_compile.compile(REPVGG.read_bytes()[:5000])
        error = caught.exception
        self.assertRegex(error.code, r"^[A-Z]\d{4}$")
        self.assertEqual(error.exit_code, 3)
        self.assertNotIn(tempfile.gettempdir(), str(error))
        again = pickle.loads(pickle.dumps(error))
        self.assertEqual((type(again), again.code, str(again)), (type(error), error.code, str(error)))
        with self.assertRaises(updp_compile.UpdpError) as caught:
            updp_compile.compile("missing.onnx")
        self.assertEqual(caught.exception.code, "C0002")
        with self.assertRaises(TypeError):
            updp_compile.compile(12)  # type: ignore[call-overload]

    def test_a_missed_gate_carries_the_result(self) -> None:
        with self.assertRaises(updp_compile.GoalMissedError) as caught:
            updp_compile.compile(REPVGG, max_bytes=1000)
        error = caught.exception
        self.assertEqual(error.code, "C0017")
        onnx.checker.check_model(onnx.ModelProto.FromString(error.model))
        self.assertTrue(error.report.gates.missed)

    def test_every_code_of_the_command_line_has_an_exception(self) -> None:
        for exit_code, kind in [(2, updp_compile.UsageError), (6, updp_compile.NothingToPruneError), (1, updp_compile.InternalError)]:
            from updp_compile._errors import error_of

            self.assertIs(type(error_of(("X", "text", None, exit_code))), kind)


class Pruning(unittest.TestCase):
    def test_arrays_batches_and_files_prune_the_same(self) -> None:
        pixels, labels = images()
        pixels, labels = pixels[:256], labels[:256]
        options = {"blocks": [1, 2], "seed": 3, "threads": 1}
        from_arrays, report = updp_compile.prune(RESNET, (pixels, labels), **options)
        loader = [(pixels[at : at + 64], labels[at : at + 64]) for at in range(0, 256, 64)]
        from_batches, _ = updp_compile.prune(RESNET, iter(loader), **options)
        dictionaries = [{"pixel_values": batch, "labels": classes} for batch, classes in loader]
        from_dictionaries, _ = updp_compile.prune(RESNET, dictionaries, **options)
        pairs = list(zip(pixels, labels))
        from_pairs, _ = updp_compile.prune(RESNET, pairs, **options)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "images.npz"
            np.savez(file, images=pixels, labels=labels)
            from_file, _ = updp_compile.prune(RESNET, file, preprocess="none", **options)
        self.assertEqual(from_arrays, from_batches)
        self.assertEqual(from_arrays, from_dictionaries)
        self.assertEqual(from_arrays, from_pairs)
        self.assertEqual(from_arrays, from_file)
        fit = report.pruning.fit
        self.assertEqual({each.index for each in report.pruning.blocks}, {1, 2})
        self.assertGreater(fit.after.accuracy, 0.7)
        agreement = np.mean(
            outputs(from_arrays, pixels).argmax(1) == outputs(str(RESNET), pixels).argmax(1)
        )
        self.assertGreater(agreement, 0.9)

    def test_a_goal_is_reached_and_followed(self) -> None:
        events: list[updp_compile.Event] = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", updp_compile.UpdpWarning)
            _, report = updp_compile.prune(
                RESNET, images(), macs=0.8, images=300, threads=1, progress=events.append
            )
        self.assertLessEqual(report.output.macs / report.input.macs, 0.8)
        stages = [event for event in events if event.kind == "stage"]
        self.assertEqual([event.done for event in stages], list(range(1, stages[-1].total + 1)))
        self.assertTrue(any(event.kind == "progress" and event.total > 0 for event in events))
        page = report._repr_html_()
        self.assertIn("<table>", page)
        self.assertIn("pruning", page)
        self.assertEqual(report.to_dict()["schema"], "updp-report/2")

    def test_other_threads_run_meanwhile(self) -> None:
        ticks = 0
        ended = threading.Event()

        def tick() -> None:
            nonlocal ticks
            while not ended.wait(0.01):
                ticks += 1

        thread = threading.Thread(target=tick)
        thread.start()
        started = time.monotonic()
        updp_compile.prune(RESNET, images(), blocks=2, images=256, progress=False)
        seconds = time.monotonic() - started
        ended.set()
        thread.join()
        self.assertGreater(ticks, 10 * seconds)

    def test_what_a_listener_raises_ends_the_work(self) -> None:
        def refuse(event: updp_compile.Event) -> None:
            raise LookupError(event.kind)

        with self.assertRaises(LookupError):
            updp_compile.prune(RESNET, images(), blocks=2, images=256, progress=refuse)

    def test_an_interrupt_ends_the_work_and_leaves_nothing(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            program = (
                "import updp_compile, os, signal, threading\n"
                # A shell lets jobs in the background ignore it, and children inherit that.
                "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
                "def told(event):\n"
                "    if event.kind == 'stage' and event.done == 2:\n"
                "        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
                "try:\n"
                f"    updp_compile.prune({str(RESNET)!r}, {str(TABLE)!r}, speedup=1.3, preprocess='none', progress=told)\n"
                "except KeyboardInterrupt:\n"
                "    print('interrupted')\n"
            )
            environment = dict(os.environ, TMPDIR=folder)
            ran = subprocess.run(
                [sys.executable, "-W", "ignore", "-c", program], env=environment, capture_output=True, text=True, timeout=300
            )
            self.assertEqual((ran.returncode, ran.stdout), (0, "interrupted\n"), ran.stderr)
            self.assertEqual(os.listdir(folder), [])

    def test_data_that_cannot_be_images_are_refused(self) -> None:
        pixels, labels = images()
        with self.assertRaisesRegex(ValueError, "one label for each image"):
            updp_compile.prune(RESNET, (pixels[:10], labels[:9]), blocks=1)
        with self.assertRaisesRegex(ValueError, "no images"):
            updp_compile.prune(RESNET, [], blocks=1)
        with self.assertRaisesRegex(ValueError, "one size"):
            updp_compile.prune(RESNET, [pixels[:1], pixels[:1, :, :20]], blocks=1)
        with self.assertRaisesRegex(TypeError, "uint8 or floats"):
            updp_compile.prune(RESNET, pixels.astype(complex), blocks=1)

    def test_an_endless_iterable_is_read_as_far_as_asked(self) -> None:
        pixels, labels = images()

        asked = 0

        def endless():
            nonlocal asked
            while True:
                asked += 1
                yield pixels[:100], labels[:100]

        _, report = updp_compile.prune(RESNET, endless(), blocks=2, images=150)
        self.assertEqual(report.pruning.fit.data.calibration, 150)
        self.assertEqual(asked, 2)


class Data(unittest.TestCase):
    """Images as files, without a job."""

    def written(self, data: object) -> tuple[np.ndarray, list[int] | None]:
        with _run.Scratch() as scratch:
            path, _ = scratch.images("data", data)
            found = np.load(path)
            return (found, None) if isinstance(found, np.ndarray) else (found["images"], found["labels"].tolist())

    def test_types_are_not_mixed(self) -> None:
        pixels = np.zeros((2, 4, 4), np.uint8)
        for first, second in [(pixels, pixels / 255), (pixels / 255, pixels)]:
            with self.assertRaisesRegex(TypeError, "one type"):
                self.written([first, second])

    def test_any_byte_order_and_layout_is_read(self) -> None:
        floats = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
        for same in [floats.astype(">f4"), floats.astype(">f8"), np.asfortranarray(floats), floats[::-1][::-1], floats.astype(np.float16)]:
            images, _ = self.written(same)
            self.assertEqual(images.dtype.str, np.dtype(np.float32).newbyteorder("<").str)
            np.testing.assert_array_equal(images, floats)

    def test_large_arrays_are_copied_in_pieces(self) -> None:
        images = np.arange(7 * 4, dtype=float).reshape(7, 2, 2)
        with unittest.mock.patch("updp_compile._data._PIECE", 32):
            np.testing.assert_array_equal(self.written(images)[0], images)

    def test_lists_and_missing_labels_are_pairs(self) -> None:
        images = np.arange(3 * 4, dtype=np.float32).reshape(3, 1, 2, 2)
        for data, labels in [
            ((list(images), [4, 5, 6]), [4, 5, 6]),
            ((list(images), np.array([4, 5, 6])), [4, 5, 6]),
            ((images, None), None),
            ([(images, None)], None),
            ([{"image": each, "label": None} for each in images], None),
        ]:
            found, classes = self.written(data)
            np.testing.assert_array_equal(found, images)
            self.assertEqual(classes, labels)
        self.assertEqual(self.written((images[0], 3))[0].shape, (1, 1, 2, 2))
        # Two images are no image with labels.
        self.assertEqual(self.written((images[0], images[1]))[0].shape, (2, 1, 2, 2))

    def test_messages_say_what_is_wrong(self) -> None:
        images = np.zeros((3, 1, 2, 2), np.float32)
        for data, kind, text in [
            ((images, np.eye(3)), ValueError, "argmax"),
            ((images, np.zeros((3, 1), int)), ValueError, "labels are class numbers"),
            (images.astype(np.int64), TypeError, "uint8 or floats, not of int64: astype"),
            (images.astype(np.uint16), TypeError, "uint8 or floats, not of uint16: astype"),
            (["a.png", "b.png"], TypeError, "folder of the images"),
            ([b"a"], TypeError, "decode"),
            (b"abc", TypeError, "not bytes"),
            (np.float32(3), ValueError, "two axes"),
            ([()], ValueError, "two axes"),
            ({"a": images, 3: images}, ValueError, "no images among"),
        ]:
            with self.subTest(text), self.assertRaisesRegex(kind, text):
                self.written(data)

    def test_bfloat16_tensors_become_floats(self) -> None:
        class Tensor:
            """What is used of a PyTorch tensor."""

            def __init__(self, values: np.ndarray, dtype: str) -> None:
                self.values, self.dtype = values, dtype

            def detach(self) -> Tensor:
                return self

            def cpu(self) -> Tensor:
                return self

            def float(self) -> Tensor:
                return Tensor(self.values, "torch.float32")

            def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
                if self.dtype == "torch.bfloat16":
                    raise TypeError("Got unsupported ScalarType BFloat16")
                return self.values

        images = np.ones((2, 1, 2, 2), np.float32)
        np.testing.assert_array_equal(self.written(Tensor(images, "torch.bfloat16"))[0], images)


class Options(unittest.TestCase):
    """Keyword arguments as words, without a job."""

    def words(self, **options: object) -> list[str]:
        with _run.Scratch() as scratch:
            return _run.arguments(options, options, scratch)

    def test_values_of_many_types_are_understood(self) -> None:
        self.assertEqual(self.words(no_verify=np.True_, force=np.False_), ["--no-verify"])
        self.assertEqual(self.words(threads=np.int64(2), max_bytes=np.array(5)), ["--threads=2", "--max-bytes=5"])
        self.assertEqual(self.words(skip={"b", "a"}), ["--skip=a,b"])
        self.assertEqual(self.words(blocks=(each for each in (1, 2))), ["--blocks=1,2"])
        self.assertEqual(self.words(skip=[], freeze=()), [])
        self.assertEqual(self.words(input_shape={"x": "1,2"}), ["--input-shape=x:1,2"])

    def test_values_of_wrong_types_are_refused(self) -> None:
        for options, text in [
            ({"skip": b"a"}, "skip is no bytes"),
            ({"score_command": print}, "score_command is no"),
            ({"input_data": np.zeros((1, 2))}, "input_data is a dictionary"),
            ({"input_shape": (1, 2)}, "input_shape is a dictionary"),
            ({"input_data": {"x": object()}}, "numbers"),
        ]:
            with self.subTest(text), self.assertRaisesRegex(TypeError, text):
                self.words(**options)

    def test_input_data_have_any_name_and_byte_order(self) -> None:
        with _run.Scratch() as scratch:
            [word] = _run.arguments({"input_data": {"file": np.array([1, 2], ">f4")}}, ["input_data"], scratch)
            path = word.partition("=")[2]
            with np.load(path) as arrays:
                self.assertEqual(arrays["file"].tolist(), [1, 2])
                self.assertEqual(arrays["file"].dtype, np.dtype(np.float32))
            self.assertEqual(scratch.shown[path], "<input_data>")

    def test_what_needs_an_output_says_so(self) -> None:
        with self.assertRaisesRegex(TypeError, "give an output"):
            updp_compile.compile(REPVGG, external_data=True)

    def test_the_number_of_images_is_a_number(self) -> None:
        self.assertEqual(_jobs._needed({"images": 90, "val_split": None}), 100)
        with self.assertRaisesRegex(TypeError, "images"):
            _jobs._needed({"images": "many"})

    def test_progress_is_a_function_or_a_bool(self) -> None:
        with self.assertRaisesRegex(TypeError, "progress"):
            updp_compile.compile(REPVGG, progress="yes")  # type: ignore[call-overload]


class Measuring(unittest.TestCase):
    def test_inspect_lists_blocks(self) -> None:
        report = updp_compile.inspect(RESNET)
        self.assertGreater(len(report.blocks), 2)
        block = next(each for each in report.blocks if each.prunable)
        self.assertGreater(block.baseline.macs, 0)
        self.assertIn(block.fastest, block.forms)
        self.assertEqual(report.graph["inputs"][0]["name"], "input")

    def test_verify_tells_equal_from_different(self) -> None:
        merged, _ = updp_compile.compile(RESNET)
        report = updp_compile.verify(RESNET, merged)
        self.assertTrue(report.is_equal)
        self.assertIsNone(report.failure)
        pruned, _ = updp_compile.prune(RESNET, blocks=2, recover="none")
        report = updp_compile.verify(RESNET, pruned, input_data={"input": images()[0][:8]})
        self.assertFalse(report.is_equal)
        self.assertIsNotNone(report.failure)

    def test_evaluate_and_benchmark_compare(self) -> None:
        pruned, _ = updp_compile.prune(RESNET, images(), blocks=2, images=256)
        report = updp_compile.evaluate(RESNET, images(), pruned)
        self.assertEqual(report.images, 1000)
        self.assertGreater(report.models[0].top1, 0.8)
        self.assertGreater(report.agreement, 0.8)
        self.assertEqual([each.path for each in report.models], [str(RESNET), "<bytes>"])
        speed = updp_compile.benchmark(RESNET, pruned, seconds=0.5, threads=1)
        self.assertEqual(len(speed.models), 2)
        self.assertGreater(speed.models[1].speedup, 0)

    def test_finetune_trains(self) -> None:
        trained, report = updp_compile.finetune(RESNET, images(), epochs=1, batch_size=64, images=400)
        onnx.checker.check_model(onnx.ModelProto.FromString(trained))
        self.assertGreater(report.steps, 3)
        self.assertGreater(report.after.accuracy, 0.5)


class Surroundings(unittest.TestCase):
    def test_names_that_look_like_options_are_files(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            program = (
                "import updp_compile\n"
                f"path, report = updp_compile.compile({str(REPVGG)!r}, output='-out.onnx', no_verify=True)\n"
                "assert str(path) == '-out.onnx', path\n"
                "path, report = updp_compile.compile('-out.onnx', output='-', no_verify=True)\n"
                "updp_compile.inspect('-')\n"
            )
            ran = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL)
            self.assertEqual((ran.returncode, ran.stdout, ran.stderr), (0, "", ""))
            self.assertEqual(sorted(os.listdir(folder)), ["-", "-out.onnx"])

    def test_an_error_keeps_all_it_holds(self) -> None:
        error = updp_compile.GoalMissedError("C0017", "missed", None, 7)
        error.model = b"model"
        for again in [pickle.loads(pickle.dumps(error)), copy.copy(error)]:
            self.assertEqual((again.model, str(again)), (b"model", str(error)))

    def test_messages_name_images_and_not_temporary_files(self) -> None:
        five = np.zeros((40, 5, 5, 5, 5), np.float32)
        with self.assertRaises(updp_compile.UpdpError) as caught:
            updp_compile.evaluate(REPVGG, five, REPVGG)
        self.assertNotIn("updp-", str(caught.exception).replace("updp-compile", ""))

    def test_a_warning_names_the_line_of_the_caller(self) -> None:
        def run(words: object, listener: Callable[..., None]) -> tuple[str, None]:
            listener("warning", "in /scratch", 0, 0)
            return "{}", None

        with unittest.mock.patch.object(_native, "run", run), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            _run.run([], False, {"/scratch": "<data>"})
            with self.assertRaises(TypeError):
                updp_compile.doctor()
            with self.assertRaises(TypeError):
                updp_compile.compile(b"")
        self.assertEqual([each.filename for each in caught], [__file__] * 3)
        self.assertEqual(str(caught[0].message), "in <data>")

    def test_a_program_without_a_console_has_no_bar(self) -> None:
        for stderr in [None, io.StringIO()]:
            if stderr is not None:
                stderr.close()
            with unittest.mock.patch.object(sys, "stderr", stderr):
                self.assertFalse(_progress._is_watched())

    def test_a_stand_in_for_onnxruntime_does_no_harm(self) -> None:
        with unittest.mock.patch.dict(sys.modules, onnxruntime=types.ModuleType("onnxruntime")):
            _run._prefer_own_runtime()


class Installation(unittest.TestCase):
    def test_models_run_in_the_program_of_the_same_version(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            _run._is_prepared = False
            _run.prepare()
        program = Path(sys.executable).parent / "updp-compile"
        told = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
        self.assertEqual(told.split(), ["updp-compile", _native.VERSION])
        self.assertEqual(updp_compile.__version__, _native.VERSION)

    def test_the_program_is_found_in_a_folder_of_its_own(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            program = Path(folder).resolve() / "bin" / "updp-compile"
            program.parent.mkdir()
            program.touch(mode=0o755)
            with (
                unittest.mock.patch.object(_run, "__file__", str(Path(folder) / "updp_compile" / "_run.py")),
                unittest.mock.patch("importlib.metadata.files", return_value=[]),
                unittest.mock.patch.object(_native, "use_worker") as used,
            ):
                _run._use_worker()
        used.assert_called_once_with(program)

    def test_the_runtime_of_this_environment_is_used(self) -> None:
        report = updp_compile.doctor()
        self.assertTrue(report.works, report.error)
        self.assertIsNotNone(report.library)
        self.assertEqual(report.library.version, onnxruntime.__version__)
        self.assertTrue(Path(report.library.path).is_relative_to(Path(onnxruntime.__file__).parent))

    def test_messages_go_to_the_log_and_nothing_is_printed(self) -> None:
        program = (
            "import updp_compile\n"
            f"updp_compile.prune({str(RESNET)!r}, {str(TABLE)!r}, blocks=2, preprocess='none', images=200)\n"
        )
        ran = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, timeout=300)
        self.assertEqual((ran.returncode, ran.stdout, ran.stderr), (0, "", ""))
        with self.assertLogs("updp_compile", logging.INFO) as log:
            updp_compile.prune(RESNET, TABLE, blocks=2, preprocess="none", images=200)
        self.assertTrue(any("[1/" in line for line in log.output))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    unittest.main()
