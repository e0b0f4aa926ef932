"""The wheel: the library, and the jobs and the configuration that a cluster needs.

The metadata are in pyproject.toml. This file has only what pyproject.toml cannot express: jobs/ and
conf/ are at the top of the checkout, and the wheel contains them as climb.jobs and climb.conf.
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
