#!/bin/sh
# Prints the GPUs of this machine in the JSON format of spark.*.resource.gpu.discoveryScript. The
# pyspark package on PyPI has no such script. The addresses are the indices that nvidia-smi shows.
nvidia-smi --query-gpu=index --format=csv,noheader | awk '
  { list = list (NR > 1 ? ", " : "") "\"" $1 "\"" }
  END { print "{\"name\": \"gpu\", \"addresses\": [" list "]}" }'
