"""Write table `corpus` in the format of a trainer, from Spark tasks.

job      the steps of the job `export`
prepare  the plan and the contents
rows     which documents are in which shard, by hashes
shards   the body of the tasks
write    start the tasks for all shards that have no record
facts    what the data card says about sources, quality and what was dropped
"""
