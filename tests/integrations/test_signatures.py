"""What was recorded of other packages is so, in those that are installed and in those that stand in for them."""

from __future__ import annotations

import pytest

from tests.integrations.upstream import FOLDER, MODULES, PACKAGES, described, is_here, recorded, stand_in


@pytest.mark.parametrize("package", PACKAGES)
def test_the_installed_package_has_what_was_recorded(package: str) -> None:
    if not is_here(package):
        pytest.skip(f"{package} is not installed")
    wanted = recorded(package)
    for part, found in described(package).items():
        assert found == wanted[part]


@pytest.mark.parametrize("package", MODULES)
def test_stand_ins_have_what_was_recorded(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if is_here(package):
        pytest.skip(f"{package} is installed, so nothing stands in for it")
    stand_in(package, monkeypatch)
    wanted = recorded(package)
    for part, found in described(package).items():
        assert found == wanted[part]


@pytest.mark.parametrize("package", PACKAGES)
def test_records_say_where_they_are_from(package: str) -> None:
    record = recorded(package)
    assert {"package", "source", "commit", "date", "calls", "has", "values"} == set(record)
    assert record["package"] == package


@pytest.mark.parametrize(
    ("package", "page"), [("slime", "slime"), ("prime_rl", "prime_rl"), ("tinker_cookbook", "tinker")]
)
def test_pages_name_what_was_recorded(package: str, page: str) -> None:
    text = (FOLDER.parents[2] / "docs" / "trainers" / f"{page}.md").read_text(encoding="utf-8")
    record = recorded(package)
    assert f"signatures/{package}.json" in text
    assert record["commit"][:7] in text
    assert record["date"] in text or record["source"].startswith("pypi.org")
