#!/bin/sh
# Lists the GPUs of this machine for Spark, as spark.*.resource.gpu.discoveryScript needs it. pip's
# pyspark has no such script. The names are the indices that nvidia-smi shows.
nvidia-smi --query-gpu=index --format=csv,noheader | awk '
  { list = list (NR > 1 ? ", " : "") "\"" $1 "\"" }
  END { print "{\"name\": \"gpu\", \"addresses\": [" list "]}" }'
