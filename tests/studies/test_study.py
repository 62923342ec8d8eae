"""A whole study on digits: what is paired, what is kept when it is killed, what is written, and what the tables say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from distillens.cli.app import main
from distillens.data.base import Dataset
from distillens.errors import DataError, InputError, RunError
from distillens.models.image_network import ImageNetwork
from distillens.studies import conduct as conducting
from distillens.studies.conduct import conduct
from distillens.studies.measure import cosines
from distillens.studies.study import Study
from distillens.studies.table import bibtex_of, latex, markdown
from distillens.studies.training import (
    Ground,
    initial_student,
    labelled_rows,
    preprocessing,
    train_student,
    train_teacher,
)
from distillens.transfer.training import loop


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, digits: Dataset) -> tuple[Any, Path]:
    from tests.studies.conftest import ENTRY

    return conduct(Study.load(ENTRY), digits, out=tmp_path_factory.mktemp("study") / "run")


def test_everything_a_study_promises_is_written(done: tuple[Any, Path], digits: Dataset) -> None:
    results, folder = done
    names = ["labels", "kd", "attention", "gradient", "queries"]
    assert [m["name"] for m in results["mechanisms"]] == names
    assert {(d["reference"], d["measure"]) for d in results["differences"]} == {
        (r, m) for r in ("labels", "kd") for m in ("accuracy", "agreement", "saliency", "explainer")
    }
    for mechanism in results["mechanisms"]:
        assert len(mechanism["tried"]) == 2
        record = json.loads((folder / "tune" / f"{mechanism['name']}.json").read_text())
        assert record["chosen"] == int(np.argmax([t["accuracy"] for t in record["tried"]]))
        assert mechanism["seconds"] > 0
        assert mechanism["learning_rate"] == results["mechanisms"][0]["learning_rate"]
    assert results["mechanisms"][0]["chosen"] == {"learning_rate": results["mechanisms"][0]["learning_rate"]}
    rows = pd.read_parquet(folder / "rows.parquet")
    assert len(rows) == 5 * 2 * len(digits.test)
    assert set(rows["row_id"]) == set(digits.test.inputs.row_ids)
    assert rows["saliency"].notna().sum() == 5 * 2 * 30
    assert rows["explainer"].notna().sum() == 5 * 2 * 2
    labels = dict(zip(digits.test.inputs.row_ids.tolist(), np.asarray(digits.test.labels).tolist(), strict=True))
    assert (rows["label"] == rows["row_id"].map(labels)).all()
    assert ((rows["student_decision"] == rows["label"]) == (rows["accuracy"] == 1)).all()
    assert ((rows["student_decision"] == rows["teacher_decision"]) == (rows["agreement"] == 1)).all()
    assert rows["student_probability"].between(0.1, 1).all()


def test_means_and_differences_are_those_of_the_rows(done: tuple[Any, Path]) -> None:
    results, folder = done
    rows = pd.read_parquet(folder / "rows.parquet")
    means = rows.groupby("mechanism")[["accuracy", "agreement", "saliency", "explainer"]].mean()
    for mechanism in results["mechanisms"]:
        for measure, found in mechanism["measures"].items():
            assert found["mean"] == pytest.approx(means.loc[mechanism["name"], measure])
    for d in results["differences"]:
        expected = means.loc[d["mechanism"], d["measure"]] - means.loc[d["reference"], d["measure"]]
        assert d["estimate"]["value"] == pytest.approx(expected, abs=1e-12)
        assert d["p_holm"] is None or d["p_holm"] >= d["p"]
    gradient = next(m for m in results["mechanisms"] if m["name"] == "gradient")
    other = next(m for m in results["mechanisms"] if m["name"] == "labels")
    assert gradient["measures"]["saliency"]["mean"] > other["measures"]["saliency"]["mean"]


def test_seeds_are_paired_across_mechanisms(
    entry: dict[str, Any], digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = Study.load(entry)
    preprocess = preprocessing(digits)
    teacher = ImageNetwork.fresh(study.net("teacher"), preprocess, digits.classes, seed=3)
    ground = Ground(digits, preprocess, study.net("student"), teacher, 0)
    seen: dict[str, Any] = {}
    real = loop.fit

    def spy(module: torch.nn.Module, feed: Any, **options: Any) -> Any:
        start = {name: value.clone() for name, value in module.state_dict().items()}
        orders = []

        class Watched:
            labels, weights, ahead, teaches = feed.labels, feed.weights, feed.ahead, feed.teaches

            def fetch(self, rows: torch.Tensor, *, epoch: int) -> Any:
                orders.append((epoch, rows.tolist()))
                return feed.fetch(rows, epoch=epoch)

        history = real(module, Watched(), **options)
        seen[options["label"]] = (start, [order for order in orders if len(order[1]) == 64])
        return history

    monkeypatch.setattr(loop, "fit", spy)
    for mechanism in study.mechanisms:
        configuration = study.configurations(mechanism)[0]
        train_student(ground, configuration, study.built_schedule(0.02), seed=11, label=mechanism.name)
    train_student(
        ground, study.configurations(study.mechanism("kd"))[0], study.built_schedule(), seed=12, label="other seed"
    )
    start, order = seen["labels"]
    assert len(order) == 3 * 5
    for name in ("kd", "attention", "gradient", "queries"):
        assert all(torch.equal(start[key], seen[name][0][key]) for key in start), name
        assert seen[name][1] == order, name
    assert seen["other seed"][1] != order
    assert any(not torch.equal(start[key], seen["other seed"][0][key]) for key in start)
    fresh = initial_student(ground, seed=11).module.state_dict()
    assert all(torch.equal(start[key], fresh[key]) for key in start)


def test_a_killed_study_loses_one_training_and_ends_with_the_same_numbers(
    done: tuple[Any, Path], entry: dict[str, Any], digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = conducting.train_student
    calls: list[str] = []

    def counted(*args: Any, label: str, **options: Any) -> Any:
        calls.append(label)
        if len(calls) == 13 and "again" not in calls:
            raise KeyboardInterrupt
        return real(*args, label=label, **options)

    monkeypatch.setattr(conducting, "train_student", counted)
    with pytest.raises(KeyboardInterrupt):
        conduct(Study.load(entry), digits, out=tmp_path / "run")
    before, calls[:] = list(calls), ["again"]
    with pytest.raises(RunError, match="--resume goes on"):
        conduct(Study.load(entry), digits, out=tmp_path / "run")
    results, folder = conduct(Study.load(entry), digits, out=tmp_path / "run", resume=True)
    assert calls[1:][0] == before[-1]
    assert len(before) - 1 + len(calls) - 1 == 5 * (2 + 2)
    whole, other = done
    timeless = [
        [{k: v for k, v in m.items() if k not in ("seconds", "tried")} for m in r["mechanisms"]]
        for r in (results, whole)
    ]
    assert timeless[0] == timeless[1]
    assert results["differences"] == whole["differences"]
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "rows.parquet"), pd.read_parquet(other / "rows.parquet"))
    # One more seed is two trainings for each mechanism kept, and one more.
    calls[:] = ["again"]
    more, _ = conduct(Study.load(entry | {"seeds": 3, "level": 0.9}), digits, out=tmp_path / "run", resume=True)
    assert len(calls) - 1 == 5
    assert (more["seeds"], more["level"]) == (3, 0.9)


def test_few_labels_are_drawn_by_the_seed_and_hidden_from_all_mechanisms(
    entry: dict[str, Any], digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = Study.load(entry | {"labelled_per_class": 3})
    labels = np.asarray(digits.train.labels)
    first, again, other = (labelled_rows(labels, 3, seed=s) for s in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.bincount(labels[first]).tolist() == [3] * 10
    teacher = train_teacher(digits, preprocessing(digits), study.net("teacher"), study.teacher_schedule(), seed=0).model
    ground = Ground(digits, teacher.preprocess, study.net("student"), teacher, 0, study.labelled_per_class)
    fed: list[Any] = []
    real = loop.fit

    def spy(module: torch.nn.Module, feed: Any, **options: Any) -> Any:
        fed.append((feed, options["schedule"]))
        return real(module, feed, **options)

    monkeypatch.setattr(loop, "fit", spy)
    baseline = train_student(ground, study.configurations(study.mechanism("labels"))[0], study.built_schedule(), seed=1)
    taught = train_student(ground, study.configurations(study.mechanism("kd"))[0], study.built_schedule(), seed=1)
    assert len(fed[0][0].labels) == 30
    assert torch.equal(fed[0][0].labels, torch.from_numpy(labels[first]).float())
    assert len(fed[1][0].labels) == 320
    known = ~fed[1][0].labels.isnan()
    assert known.nonzero()[:, 0].tolist() == first.tolist()
    assert baseline.steps == taught.steps == 15


def test_cosines_of_maps() -> None:
    found = cosines(
        np.array([[1.0, 0], [1, 1], [0, 0], [1, 0], [1, 0]]), np.array([[2.0, 0], [1, 0], [1, 1], [0, 0], [-3, 0]])
    )
    np.testing.assert_allclose(found, [1, 1 / np.sqrt(2), np.nan, 0, -1])


def test_the_tables_say_what_the_results_say(done: tuple[Any, Path]) -> None:
    results, folder = done
    text = (folder / "table.md").read_text(encoding="utf-8")
    assert text == markdown(results)
    widths = {
        len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if line.startswith("| ") and "p " in line
    }
    assert len(widths) <= 2
    kd = next(
        d
        for d in results["differences"]
        if (d["mechanism"], d["reference"], d["measure"]) == ("kd", "labels", "accuracy")
    )
    assert f"{kd['estimate']['value']:+.3f} ({kd['estimate']['low']:+.3f} to {kd['estimate']['high']:+.3f})" in text
    assert "not another teacher" in text
    assert "With two seeds" in text
    assert "With two seeds" not in markdown(results | {"seeds": 5})
    bib = bibtex_of(results)
    for key in ("hinton2015distilling", "zagoruyko2017paying", "hillis2007comparison", "holm1979simple"):
        assert bib.count("{" + key + ",") == 1
    assert bib.count("{") == bib.count("}")
    assert (folder / "references.bib").read_text(encoding="utf-8") == bib
    assert (folder / "table.tex").read_text(encoding="utf-8") == latex(results)


def test_names_cannot_break_the_tables(done: tuple[Any, Path]) -> None:
    hostile = json.loads(json.dumps(done[0]))
    hostile["study"] = "a | b <script>\n# c `d` \\input{e} 5 % of $x_1$ & ~^"
    hostile["mechanisms"][1]["chosen"] = {"k|d.*[x](y)": 1.0}
    text = markdown(hostile)
    assert "<script>" not in text
    assert text.count("\n# ") == 0
    first = [line for line in text.splitlines() if line.startswith("| ")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in first[:7]}) == 1
    tex = latex(hostile)
    assert r"\input" not in tex
    assert (
        r"a | b $<$script$>$ \# c `d` \textbackslash{}input\{e\} 5 \% of \$x\_1\$ \& \textasciitilde{}\textasciicircum{}"
        in tex
    )
    for line in tex.splitlines():
        if not line.startswith("%"):
            assert re.search(r"(?<!\\)[%#]", line) is None


def test_data_that_cannot_be_studied(entry: dict[str, Any], digits: Dataset, tmp_path: Path) -> None:
    from distillens.data.load import load_dataset

    with pytest.raises(DataError, match="these data are a table"):
        conduct(Study.load(entry), load_dataset(source="breast-cancer"), out=tmp_path / "a")
    with pytest.raises(DataError, match=r"labelled_per_class is 500, and the rarest class has \d+ training rows"):
        conduct(Study.load(entry | {"labelled_per_class": 500}), digits, out=tmp_path / "b")
    with pytest.raises(InputError, match="does not exist"):
        conduct(Study.load(entry | {"teacher": {"file": str(tmp_path / "t.safetensors")}}), digits, out=tmp_path / "c")


def test_a_teacher_of_ones_own(done: tuple[Any, Path], entry: dict[str, Any], digits: Dataset, tmp_path: Path) -> None:
    entry |= {"teacher": {"file": str(done[1] / "teacher" / "model.safetensors")}, "seeds": 1, "tune": {"budget": 1}}
    entry["mechanisms"] = entry["mechanisms"][:1]
    entry["measure"] |= {"explained_rows": 0, "saliency_rows": 0}
    results, folder = conduct(Study.load(entry), digits, out=tmp_path / "run")
    assert results["teacher"]["test_accuracy"] == done[0]["teacher"]["test_accuracy"]
    assert results["unavailable"] == ["saliency", "explainer"]
    assert results["differences"][0]["estimate"]["status"] == "insufficient"
    text = (folder / "table.md").read_text(encoding="utf-8")
    assert "no interval" in text
    assert "With one seed there are no intervals" in text


def test_on_the_command_line(
    entry: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from distillens.recipe.text import dump_yaml

    monkeypatch.chdir(tmp_path)
    entry |= {"seeds": 2, "tune": {"budget": 1}, "mechanisms": entry["mechanisms"][:1]}
    entry["measure"] |= {"explained_rows": 0}
    (tmp_path / "mine.yaml").write_text(dump_yaml(entry), encoding="utf-8")
    assert main(["compare", "mine.yaml"]) == 0
    said = capsys.readouterr().out
    assert "Differences to labels:" in said
    assert "@misc{hinton2015distilling" in said
    assert (tmp_path / "studies" / "mine" / "results.json").is_file()
    assert main(["compare", "mine.yaml", "--resume", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["seeds"] == 2
    assert main(["compare", "mine.yaml", "--resume", "--latex"]) == 0
    assert r"\toprule" in capsys.readouterr().out
    assert main(["compare", "mine.yaml"]) == 2
    assert "--resume" in capsys.readouterr().err
    assert main(["compare", "mine.yaml", "studies"]) == 2
    assert main(["compare", "studies", "--latex"]) == 2
    assert main(["compare", "mine.yaml", "--set", "seeds=0", "--out", "x"]) == 2
    assert "seeds: expected a number of at least 1" in capsys.readouterr().err
