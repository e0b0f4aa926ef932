"""A Spark session without a JVM, for the planning of slots."""


class FakeSession:
    """What `plan_slots` asks a session: master, settings, cores and executors."""

    def __init__(self, master, settings, cores=2, executors=0):
        self.sparkContext = self._jsc = self
        self.master, self.settings, self.executors = master, settings, executors
        self.defaultParallelism = cores

    def getConf(self):
        return self

    def getAll(self):
        return list(self.settings.items())

    def get(self, key, default):
        return self.settings.get(key, default)

    def sc(self):
        return self

    def getExecutorMemoryStatus(self):
        return self

    def size(self):
        return self.executors + 1
