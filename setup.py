"""The wheel: the library, and beside it the jobs and the configuration that a cluster needs.

Metadata stands in pyproject.toml; here is only what it cannot say: jobs/ and conf/ live at the
top of the checkout, and travel inside the wheel as climb.jobs and climb.conf.
"""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages("lib"), "climb.jobs", "climb.conf"],
    package_dir={"": "lib", "climb.jobs": "jobs", "climb.conf": "conf"},
    package_data={
        "climb": ["py.typed", "**/*.jinja", "estimate/*.yaml", "estimate/*.json"],
        "climb.conf": [
            *("*.yaml", "proxy/*.yaml", "targets/*.yaml", "ablations/*.yaml"),
            *("experiments/*.yaml", "spark/*.conf", "spark/*.sh"),
        ],
    },
)
