"""A LoRA adapter on a real vLLM: it says other things than its base model, and the cache keeps the two apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.engines.vllm.conftest import FIGURES, Place, store_sums, told

if TYPE_CHECKING:
    from pathlib import Path

    from tests.engines.vllm.conftest import Workshop

N, PROMPTS = 4, 64


def test_an_adapter_draws_other_responses_under_a_version_of_its_own(
    model: Path, workshop: Workshop, adapter: Path, tmp_path: Path
) -> None:
    place = Place(tmp_path / "sums.duckdb", model)
    store_sums(place.store, below=8)
    words = ["--api", "completions", "-n", str(N)]
    bare = workshop.told(place.in_process(*words))
    adapted = told(place.in_process(*words, "--lora", str(adapter)))
    again = told(place.in_process(*words, "--lora", str(adapter)))
    assert (bare["generated"], adapted["cached"], adapted["generated"]) == (N * PROMPTS, 0, N * PROMPTS)
    assert (again["cached"], again["generated"], place.asked()) == (N * PROMPTS, 0, 2 * N * PROMPTS)
    assert adapted["model"] == bare["model"]
    assert adapted["weight_version"].startswith(f"{bare['weight_version']}+lora-")
    found = place.rows(
        """select weight_version, response, solved from rollouts join sources using (source_id)
           order by weight_version, prompt_id, sample"""
    )
    base, other = ([row[1:] for row in found if row[0] == report["weight_version"]] for report in (bare, adapted))
    differ = sum(one[0] != two[0] for one, two in zip(base, other, strict=True))
    rates = [sum(solved for _, solved in rows) / len(rows) for rows in (base, other)]
    FIGURES.append(
        f"LoRA: {differ} of {N * PROMPTS} responses differ from the base model's; "
        f"pass rate {rates[0]:.2f} without, {rates[1]:.2f} with it"
    )
    assert differ > 0.2 * N * PROMPTS
    versions = {row["weight_version"] for row in place.curri("rollouts", "stats")["sources"]}
    assert versions == {bare["weight_version"], adapted["weight_version"]}
