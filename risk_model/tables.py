"""Every answer that each tree of a booster can give, asked of XGBoost once, when a model is loaded.

A tree reads a feature only as "between which two of my thresholds, or absent?". So it has as many
answers as there are combinations of that over the few features that it reads: the 367 trees of
diabetes-undiagnosed 2.0.0 have 95,960 in all. XGBoost computes them beforehand, leaf and exact
TreeSHAP (https://arxiv.org/abs/1802.03888); scoring looks one up for each tree and adds them as
XGBoost does, in 32 bits and in the order of the trees. What comes out are XGBoost's own bits.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from risk_model.booster import (
    Booster,
    Leaves,
    Row,
    leaves_and_shap_values,
    load_booster,
    margins_and_shap_values,
    part_of,
)

# About a second to fill, and 32 MB. A tree of five levels that reads a dozen features has millions
# of answers: its model is left to XGBoost.
MOST_ANSWERS, MOST_CELLS = 300_000, 8_000_000

# How many trees are asked at a time, and how many times as many answers as the first the last may
# have: all trees of a batch are asked as often as the last.
_BATCH, _UNEVEN = 16, 1.3

# XGBoost refuses infinite values, and 32 bits have none below a cut at their end.
_LARGEST = 1e30

Json = Mapping[str, Any]
Steps = npt.NDArray[np.int32]
Columns = tuple[tuple[int, list[float]], ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tables:
    """`answers` [1 + all trees' answers, columns + 1], 32 bits: TreeSHAP by column, then the leaf.
    The first row is where every sum begins: no shares, and the margin that leaves are added to.

    `steps` [all columns' bins, 1 + trees]: what a column's bin adds to the place of each tree's
    answer in `answers`. `columns`: for each, its first bin in `steps`, and its cuts, rising. Bin n
    is below cut n and not below cut n - 1; the last is that of an absent value.

    `expected` is the margin that TreeSHAP starts from.
    """

    answers: Row
    steps: Steps
    columns: Columns
    expected: float

    def margin_and_shares(self, row: Row) -> tuple[float, list[float]]:
        """Log-odds before calibration, and what each column adds to `expected`; NaN is absent."""
        bins = [
            first + (bisect_right(cuts, value) if value == value else len(cuts) + 1)
            for value, (first, cuts) in zip(row.tolist(), self.columns, strict=True)
        ]
        places = np.add.reduce(self.steps.take(bins, axis=0), axis=0, dtype=np.int32)
        # Row after row, as XGBoost adds: only along the last axis would numpy add in pairs.
        *shares, margin = np.add.reduce(self.answers.take(places, axis=0), axis=0).tolist()
        return margin, shares


def tabulate(booster: Booster) -> Tables | None:
    """The booster's tables; None for one that is no sum of plain trees (a linear model, dropout,
    classes, categories), or has too many answers."""
    filled = _filled(bytes(booster.save_raw("json")), MOST_ANSWERS, MOST_CELLS)
    if filled is None:
        return None
    answers, steps, columns = filled
    expected = _of_nobody(booster)[1]
    return Tables(answers=answers, steps=steps, columns=columns, expected=expected)


# Tests make hundreds of apps of one model, each loaded for itself.
@lru_cache(maxsize=2)
def _filled(
    content: bytes, most_answers: int, most_cells: int
) -> tuple[Row, Steps, Columns] | None:
    """`answers`, `steps` and `columns` of Tables, never to be written to; from a booster's JSON."""
    raw = json.loads(content)
    if not _is_sum_of_trees(raw["learner"]):
        return None
    trees = [_parse_tree(tree) for tree in _model(raw)["trees"]]
    count = int(raw["learner"]["learner_model_param"]["num_feature"])
    cuts = [_all_cuts(trees, column) for column in range(count)]
    places, bins = 1 + sum(tree.count for tree in trees), sum(len(own) + 2 for own in cuts)
    if places > most_answers or places * (count + 1) + bins * (1 + len(trees)) > most_cells:
        return None
    if any(abs(cut) > _LARGEST for own in cuts for cut in own):
        return None
    answers, steps = _answers(raw, trees, count), _steps(trees, cuts)
    for table in (answers, steps):
        table.flags.writeable = False
    firsts = _begins(len(own) + 2 for own in cuts)
    return answers, steps, tuple(zip(firsts, cuts, strict=True))


# ------------------------------------------------------------------------------ reading the trees


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    """How one tree reads one column: in which bin between `cuts` is it? `absent` is the bin that an
    absent value goes along with at every split; len(cuts) + 1, its own, if there is none.

    The tree's answers are numbered as by digits: `stride` is what one bin more adds.
    """

    column: int
    cuts: list[float]
    absent: int
    stride: int

    @property
    def bins(self) -> int:
        return max(len(self.cuts), self.absent) + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tree:
    """A tree in XGBoost's JSON (https://xgboost.readthedocs.io/en/stable/tutorials/saving_model.html),
    its thresholds and leaves by node, its questions and how many answers it has."""

    raw: Json
    conditions: Row
    questions: list[_Question]
    count: int

    def rows(self, count: int) -> Row:
        """[count, questions]: what leads to each answer in turn; after the last, the first again"""
        rows = np.empty((count, len(self.questions)), dtype=np.float32)
        answers = np.arange(count) % self.count
        for place, question in enumerate(self.questions):
            rows[:, place] = _samples(question.cuts)[answers // question.stride % question.bins]
        return rows


def _is_sum_of_trees(learner: Json) -> bool:
    booster, parameters = learner["gradient_booster"], learner["learner_model_param"]
    if booster["name"] != "gbtree":
        return False
    trees = booster["model"]["trees"]
    return (
        bool(trees)
        and int(parameters["num_class"]) <= 1
        and int(parameters["num_target"]) <= 1
        and not any(any(tree["split_type"]) for tree in trees)
    )


def _model(raw: Json) -> Json:
    model: Json = raw["learner"]["gradient_booster"]["model"]
    return model


def _parse_tree(raw: Json) -> _Tree:
    # JSON has the shortest decimals; compared are the 32-bit numbers that they stand for.
    conditions = np.array(raw["split_conditions"], dtype=np.float32)
    splits: dict[int, list[tuple[float, bool]]] = {}
    for column, threshold, default_left, child in zip(
        raw["split_indices"],
        conditions.tolist(),
        raw["default_left"],
        raw["left_children"],
        strict=True,
    ):
        if child != -1:
            splits.setdefault(column, []).append((threshold, bool(default_left)))
    questions: list[_Question] = []
    count = 1
    for column, own in sorted(splits.items()):
        question = _question(column, own, stride=count)
        count *= question.bins
        questions.append(question)
    return _Tree(raw=raw, conditions=conditions, questions=questions, count=count)


def _question(column: int, splits: list[tuple[float, bool]], stride: int) -> _Question:
    """`splits`: threshold, and whether an absent value goes left, where the values below it go."""
    cuts = sorted({threshold for threshold, _ in splits})
    # The lowest bin that is above every threshold at which an absent value goes right, if it is
    # below every one at which it goes left.
    lowest = 1 + max((cuts.index(t) for t, goes_left in splits if not goes_left), default=-1)
    highest = min((cuts.index(t) for t, goes_left in splits if goes_left), default=len(cuts))
    absent = lowest if lowest <= highest else len(cuts) + 1
    return _Question(column=column, cuts=cuts, absent=absent, stride=stride)


def _all_cuts(trees: list[_Tree], column: int) -> list[float]:
    asked = (question for tree in trees for question in tree.questions)
    return sorted({cut for question in asked if question.column == column for cut in question.cuts})


def _samples(cuts: list[float]) -> Row:
    """A value of each bin: one below all cuts, then each cut, which is not below itself; NaN."""
    below = [cuts[0] - abs(cuts[0]) - 1] if cuts else [0.0]
    return np.array([*below, *cuts, np.nan], dtype=np.float32)


# ----------------------------------------------------------------------------- filling the tables


def _steps(trees: list[_Tree], cuts: list[list[float]]) -> Steps:
    samples = [_samples(own) for own in cuts]
    firsts = _begins(len(own) for own in samples)
    steps = np.zeros((sum(len(own) for own in samples), 1 + len(trees)), dtype=np.int32)
    for place, tree in enumerate(trees, start=1):
        for question in tree.questions:
            first, values = firsts[question.column], samples[question.column]
            bins = np.searchsorted(question.cuts, values, side="right")
            bins[-1] = question.absent
            steps[first : first + len(values), place] = question.stride * bins
    # One bin of the first column is always among those added: with it comes where a tree begins.
    steps[: len(samples[0]), 1:] += np.array(_begins_of_answers(trees), dtype=np.int32)
    return steps


def _begins_of_answers(trees: list[_Tree]) -> list[int]:
    return [1 + begin for begin in _begins(tree.count for tree in trees)]


def _begins(lengths: Iterable[int]) -> list[int]:
    """Where each of several stretches begins that follow one another."""
    return list(accumulate(lengths, initial=0))[:-1]


def _answers(raw: Json, trees: list[_Tree], count: int) -> Row:
    answers = np.zeros((1 + sum(tree.count for tree in trees), count + 1), dtype=np.float32)
    begins = _begins_of_answers(trees)
    batches = _batches(trees)
    asked = _booster_to_ask(raw, [[trees[number] for number in batch] for batch in batches])
    answers[0, -1] = _of_nobody(part_of(asked, 0, 1))[0]
    for batch, at in zip(batches, _begins(len(batch) for batch in batches), strict=True):
        own = [trees[number] for number in batch]
        part = part_of(asked, 1 + at, 1 + at + len(batch))
        for number, (leaves, shap_values) in zip(batch, _ask(part, own), strict=True):
            tree = trees[number]
            rows = answers[begins[number] : begins[number] + tree.count]
            rows[:, [question.column for question in tree.questions]] = shap_values
            rows[:, -1] = tree.conditions[leaves]
    return answers


def _ask(booster: Booster, trees: list[_Tree]) -> Iterator[tuple[Leaves, Row]]:
    """For each tree, by answer: its leaf, and [answers, questions] its TreeSHAP. `booster` has
    these trees only, each reading columns of its own."""
    count = max(tree.count for tree in trees)
    rows = np.full((count, booster.num_features()), np.nan, dtype=np.float32)
    begins = _begins(len(tree.questions) for tree in trees)
    for tree, begin in zip(trees, begins, strict=True):
        rows[:, begin : begin + len(tree.questions)] = tree.rows(count)
    leaves, shap_values = leaves_and_shap_values(booster, rows)
    for place, (tree, begin) in enumerate(zip(trees, begins, strict=True)):
        own = slice(begin, begin + len(tree.questions))
        yield leaves[: tree.count, place], shap_values[: tree.count, own]


def _batches(trees: list[_Tree]) -> list[list[int]]:
    """The trees' numbers, those together that have about as many answers."""
    batches: list[list[int]] = []
    for number in sorted(range(len(trees)), key=lambda number: trees[number].count):
        batch = batches[-1] if batches else []
        full = len(batch) == _BATCH
        if not batch or full or trees[number].count > _UNEVEN * trees[batch[0]].count:
            batches.append([number])
        else:
            batch.append(number)
    return batches


def _booster_to_ask(raw: Json, batches: list[list[_Tree]]) -> Booster:
    """A booster as `raw`'s, of a tree that adds 0, then these trees, batch after batch. Those of a
    batch read columns of their own, so that what such a column is given is given by one tree.

    One booster, to be sliced: to read one from JSON takes XGBoost 5 ms, a slice 0.2.
    """
    trees, widest = [_nothing(raw)], 1
    for batch in batches:
        begins = _begins(len(tree.questions) for tree in batch)
        trees += [_reading_from(tree, begin) for tree, begin in zip(batch, begins, strict=True)]
        widest = max(widest, sum(len(tree.questions) for tree in batch))
    return _booster_of(raw, trees, widest)


def _reading_from(tree: _Tree, begin: int) -> Json:
    """The tree's JSON; of its questions, the first reads column `begin`, and so on."""
    number = {question.column: begin + n for n, question in enumerate(tree.questions)}
    # Leaves have a column as well, which nobody reads.
    return {**tree.raw, "split_indices": [number.get(c, 0) for c in tree.raw["split_indices"]]}


def _nothing(raw: Json) -> Json:
    """A tree of one leaf, 0. Its booster's margin is what leaves are added to: how XGBoost gets
    there from base_score depends on the objective, and on the version."""
    leaf = {
        **{name: [0.0] for name in ("base_weights", "loss_changes", "split_conditions")},
        **{name: [0] for name in ("default_left", "split_indices", "split_type")},
        **{name: [-1] for name in ("left_children", "right_children")},
        "parents": [2**31 - 1],  # nobody's child
        "sum_hessian": [1.0],
    }
    pattern = _model(raw)["trees"][0]
    return {**pattern, **leaf, "tree_param": {**pattern["tree_param"], "num_nodes": "1"}}


def _booster_of(raw: Json, trees: list[Json], columns: int) -> Booster:
    numbered = [
        {**tree, "id": n, "tree_param": {**tree["tree_param"], "num_feature": str(columns)}}
        for n, tree in enumerate(trees)
    ]
    model = {
        **_model(raw),
        "gbtree_model_param": {"num_parallel_tree": "1", "num_trees": str(len(trees))},
        "iteration_indptr": list(range(len(trees) + 1)),
        "tree_info": [0] * len(trees),
        "trees": numbered,
    }
    learner = {
        **raw["learner"],
        "feature_names": [],
        "feature_types": [],
        "gradient_booster": {**raw["learner"]["gradient_booster"], "model": model},
        "learner_model_param": {
            **raw["learner"]["learner_model_param"],
            "num_feature": str(columns),
        },
    }
    return load_booster(json.dumps({**raw, "learner": learner}).encode())


def _of_nobody(booster: Booster) -> tuple[float, float]:
    """(margin, expected margin) for a row in which everything is absent."""
    nobody = np.full((1, booster.num_features()), np.nan, dtype=np.float32)
    margins, shap_values = margins_and_shap_values(booster, nobody)
    return float(margins[0]), float(shap_values[0, -1])
