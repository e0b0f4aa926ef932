"""What a command shows while it works."""

import logging
import time

from climb.progress import show_stages

LOGGER = logging.getLogger("climb.search.some_module")


def test_a_quick_command_shows_no_stages(capsys):
    with show_stages():
        LOGGER.info("fitting 3 metrics")
    assert capsys.readouterr().err == ""


def test_a_long_command_shows_the_current_stage_and_the_later_ones(capsys):
    with show_stages(quiet_seconds=0.05):
        LOGGER.info("reading")
        LOGGER.info("fitting %d metrics", 3)
        time.sleep(0.3)
        LOGGER.info("searching")
        LOGGER.info("searching")
    LOGGER.info("after the command")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("s  ")[1] for line in lines] == ["fitting 3 metrics", "searching"]
