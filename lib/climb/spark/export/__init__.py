"""Write table `corpus` in the format of a trainer, from Spark tasks.

job      the steps of job export
prepare  the plan and the contents
rows     which documents are in which shard, by hashes
shards   the body of the tasks
write    the whole export: resumed after a kill, complete or not there
facts    what the data card says about sources, quality and what was dropped
"""
