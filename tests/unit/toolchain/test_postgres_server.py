"""How a PostgreSQL server installation is found, or installed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from infra.toolchain import postgres
from infra.toolchain.errors import PostgresMissing, ToolchainError

pytestmark = pytest.mark.unit

Script = Callable[..., Path]


@pytest.fixture
def postgres_bin(machine: Path, script: Script) -> Callable[..., Path]:
    """A PostgreSQL installation of scripts."""

    def install(name: str, version: str, *, without: str = "") -> Path:
        directory = machine / name
        for program in postgres.PROGRAMS:
            if program != without:
                script(program, f"echo 'postgres (PostgreSQL) {version} (Debian)'", directory)
        return directory

    return install


class TestPostgres:
    def test_the_newest_installation_is_found(self, machine: Path, postgres_bin: Callable[..., Path]) -> None:
        postgres_bin("pg/9/bin", "14.9")
        newest = postgres_bin("pg/16/bin", "16.2")
        postgres_bin("pg/15/bin", "15.18")
        assert postgres.find_postgres([f"{machine}/pg/*/bin"]) == postgres.Postgres(newest, (16, 2))

    def test_pg_config_and_a_link_on_path_lead_to_it(
        self, machine: Path, script: Script, postgres_bin: Callable[..., Path]
    ) -> None:
        directory = postgres_bin("elsewhere", "15.1")
        link = machine / "bin" / "postgres"
        link.symlink_to(directory / "postgres")
        assert postgres.find_postgres([]).bin == directory
        link.unlink()
        script("pg_config", f"echo {directory}")
        assert postgres.find_postgres([]).bin == directory

    def test_a_broken_pg_config_is_passed_over(self, script: Script) -> None:
        script("pg_config", "exit 1")
        with pytest.raises(PostgresMissing):
            postgres.find_postgres([])

    def test_a_version_without_a_minor_number_is_understood(
        self, machine: Path, postgres_bin: Callable[..., Path]
    ) -> None:
        postgres_bin("pg", "18beta1")
        assert postgres.find_postgres([f"{machine}/pg"]).version == (18, 0)

    @pytest.mark.parametrize(
        ("version", "without", "why"),
        [
            ("13.4", "", "is version 13"),
            ("15.1", "pg_rewind", "lacks pg_rewind"),
            ("unknown", "", "does not tell its version"),
        ],
    )
    def test_an_unusable_installation_is_named_with_the_reason(
        self, machine: Path, postgres_bin: Callable[..., Path], version: str, without: str, why: str
    ) -> None:
        directory = postgres_bin("pg", version, without=without)
        with pytest.raises(PostgresMissing, match=f"{directory} .*{why}.*apt-get install postgresql"):
            postgres.find_postgres([str(directory)])

    def test_no_installation_says_what_to_install(self) -> None:
        with pytest.raises(PostgresMissing, match="no PostgreSQL server 14 or newer was found: install one"):
            postgres.find_postgres([])

    def test_only_root_on_debian_can_have_it_installed(
        self, become_root: Callable[[], None], script: Script, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        script("apt-get", "exit 0")
        with pytest.raises(PostgresMissing, match="can only be installed for you by root"):
            postgres.install_postgres()
        become_root()
        monkeypatch.setenv("PATH", "/nonexistent")
        with pytest.raises(PostgresMissing, match="can only be installed for you by root"):
            postgres.install_postgres()

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ("#create_main_cluster = true\nssl = on\n", "create_main_cluster = false\nssl = on\n"),
            ("ssl = on\n", "ssl = on\n\ncreate_main_cluster = false\n"),
            (None, None),
        ],
    )
    def test_installing_makes_no_cluster_and_refreshes_the_lists_if_needed(
        self,
        become_root: Callable[[], None],
        machine: Path,
        script: Script,
        monkeypatch: pytest.MonkeyPatch,
        before: str | None,
        after: str | None,
    ) -> None:
        settings = machine / "createcluster.conf"
        if before is not None:
            settings.write_text(before, encoding="utf-8")
        script(
            "apt-get",
            f"echo $DEBIAN_FRONTEND $* >> {machine}/calls; "
            f"[ $1 = update ] && echo > {machine}/updated; [ -e {machine}/updated ]",
        )
        become_root()
        monkeypatch.setattr(postgres, "_CREATE_CLUSTER", settings)
        installed = postgres.Postgres(machine, (15, 18))
        monkeypatch.setattr(postgres, "find_postgres", lambda: installed)
        lines: list[str] = []
        assert postgres.install_postgres(lines.append) == installed
        assert lines == ["installing PostgreSQL with apt-get"]
        assert (machine / "calls").read_text(encoding="utf-8").splitlines() == [
            "noninteractive install -y --no-install-recommends postgresql-common",
            "noninteractive update",
            "noninteractive install -y --no-install-recommends postgresql-common",
            "noninteractive install -y --no-install-recommends postgresql",
        ]
        assert (settings.read_text(encoding="utf-8") if settings.exists() else None) == after

    def test_a_failed_installation_quotes_apt(self, script: Script) -> None:
        script("apt-get", "echo E: Unable to locate package >&2; exit 100")
        with pytest.raises(ToolchainError, match="Unable to locate package\ninstall postgresql yourself"):
            postgres.apt_install("postgresql")

    def test_as_root_it_must_be_executable_by_others(
        self,
        become_root: Callable[[], None],
        machine: Path,
        postgres_bin: Callable[..., Path],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        directory = postgres_bin("pg", "15.1")
        become_root()
        monkeypatch.setattr(postgres, "others_can_execute", lambda path: path.name != "psql")
        with pytest.raises(PostgresMissing, match="lacks psql"):
            postgres.find_postgres([str(directory)])
