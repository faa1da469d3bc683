"""The whole loop on photographs: label, correct, collect, learn, promote, label anew, and again.

Nothing is simulated but the people. A Label Studio server of its own shows the predictions of the
tiny checkpoint; a script submits true masks through its API (``benchmarks/camvid/annotators.py``);
what is collected is learned, and promoted if the gate finds it better. ``worst`` corrects next what
Label Studio orders first by the published score, ``random`` what a seed drew.

``--train`` and ``--eval`` are folders with ``images/`` and ``labels/`` (a class index a pixel),
``classes.json`` in or above them. Each class is a query, "the <class>", present in a picture from
``--min-pixels`` pixels on. ``--images`` of the training pictures, drawn by ``--seed``, are labeled
and may be corrected. Void pixels count nowhere.

``--json`` writes a list of rounds for each order: ``images`` corrected so far, on ``--eval``
``miou`` and ``ciou`` over present queries, ``ciou_by_class``, ``presence`` (share of right
answers), on generated scenes ``replay_miou`` (those of the gate, answered by the current version),
``pixels_per_image`` that people changed in the round, ``promoted``, ``minutes``. Beside them:
``before`` (the same before any round), ``detail``, ``bars``, ``seconds``.

Killed and started again with the same ``--work`` it goes on; rounds that are done are not played
again. A kill in ``--work`` loses the count of the minutes of the stage it falls into, nothing else.
"""

import argparse
import os
import sys
import threading
from pathlib import Path

from benchmarks.camvid import report
from benchmarks.camvid.files import read_json, write_once
from benchmarks.camvid.loop import Loop, Server, round_path
from benchmarks.camvid.photos import read_photos
from benchmarks.camvid.plot import plot
from benchmarks.camvid.settings import ORDERS, TEMPLATE, OrderName, Play, read_template
from labelstudio.errors import TOKEN_VARIABLE
from labelstudio.server import LabelStudioServer
from pipeline.cli.terminal import chatter_on_stderr, stop_on_signals
from pipeline.errors import ExitCode, InputError, ReadloopError
from pipeline.progress import Progress


def main() -> int:
    """Play, measure and print; return the exit code."""
    asked = _arguments()
    try:
        if asked.table:
            print(report.table(_read_result(asked.table)))
            return ExitCode.DONE
        if asked.plot:
            print(plot(_read_result(asked.plot)), end="")
            return ExitCode.DONE
        return _play(asked)
    except ReadloopError as error:
        print(f"camvid_loop: {error}", file=sys.stderr)
        return error.exit_code


def _play(asked: argparse.Namespace) -> int:
    if not asked.train or not asked.eval:
        raise InputError("--train and --eval are needed: folders with images/ and labels/")
    pool = read_photos(asked.train, asked.min_pixels)
    judged = read_photos(asked.eval, asked.min_pixels)
    play = Play(
        pool=pool.sample(asked.images or len(pool.photos), asked.seed),
        judged=judged.sample(asked.eval_images or len(judged.photos), asked.seed),
        rounds=asked.rounds,
        work=asked.work.absolute(),
        seed=asked.seed,
        template=read_template(asked.run_file),
    )
    play.check()
    orders: tuple[OrderName, ...] = (asked.order,) if asked.order else ORDERS
    with chatter_on_stderr() as results, stop_on_signals("what is done is kept") as stop:
        for order in orders:
            _play_order(play, order, stop)
        result = report.result_of(play, orders)
        if asked.json:
            write_once(asked.json, result)
        print(report.table(result), file=results)
        print("\n".join(report.bar_lines(result)), file=results)
    return ExitCode.DONE


def _play_order(play: Play, order: OrderName, stop: threading.Event) -> None:
    """Play what is open of an order, with a Label Studio server for that long."""
    progress = Progress()
    numbers = range(len(play.rounds) + 1)
    if all(round_path(play, order, number).exists() for number in numbers):
        progress.say(f"{order}: was played before")
        return
    server = LabelStudioServer(
        play.folder(order) / "labelstudio",
        document_root=play.pool.folder,
        progress=progress.say,
    )
    progress.say(f"{order}: starting Label Studio")
    with server:
        os.environ[TOKEN_VARIABLE] = server.token
        Loop(play, order, Server(server.url, server.token), stop, progress).play()


def _read_result(path: Path) -> report.Json:
    result = read_json(path)
    if result is None:
        raise InputError(f"{path}: is not there; --json writes it")
    return dict(result)


def _rounds(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--train", type=Path, help="folder of the photographs to correct")
    add("--eval", type=Path, help="folder of the photographs to measure by")
    add("--rounds", type=_rounds, default=(25, 50, 100, 192), help="corrected images, as 25,50")
    add("--order", choices=ORDERS, help="play one order only; both by default")
    add("--json", type=Path, metavar="OUT", help="write the result here")
    add("--work", type=Path, default=Path("runs/camvid"), help="folder that everything is kept in")
    add("--run-file", type=Path, default=TEMPLATE, help="template of the run; configs/camvid.yaml")
    add("--images", type=int, help="label so many photographs only")
    add("--eval-images", type=int, help="measure by so many only")
    add("--min-pixels", type=int, default=50, help="a class with fewer counts as absent")
    add("--seed", type=int, default=0, help="of the pictures and of the random order")
    add("--table", type=Path, metavar="JSON", help="print a result as a table, and end")
    add("--plot", type=Path, metavar="JSON", help="print a result as a drawing (SVG), and end")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
