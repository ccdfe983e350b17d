"""What the README tells a new user to type works, and answers as printed."""
import re

from elacsym import REPOSITORY
from shell_page import check_page


def test_every_command_of_the_tour_does_what_the_readme_says(own_server):
    assert check_page("README.md", own_server.port) >= 7


def test_every_page_that_the_readme_names_is_there():
    page = (REPOSITORY / "README.md").read_text()
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page)
    assert len(links) >= 9
    assert [link for link in links if "://" not in link and not (REPOSITORY / link).exists()] == []
