"""A streaming application in Python, as a user would write it: nothing in it knows of ferrowal.

spark-submit … application.py CHECKPOINT PORT BATCH_SECONDS PROCESSED
Reads lines from a socket, and adds those of each batch to the file PROCESSED.
"""

import sys

from pyspark import SparkContext
from pyspark.streaming import StreamingContext

checkpoint, port, seconds, processed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]


def note(time, rdd):
    lines = rdd.collect()
    with open(processed, "a") as out:
        out.writelines(line + "\n" for line in lines)
    print(f"batch {time} {len(lines)}", flush=True)


def create():
    streaming = StreamingContext(SparkContext(), seconds)
    streaming.checkpoint(checkpoint)
    streaming.socketTextStream("127.0.0.1", port).foreachRDD(note)
    return streaming


streaming = StreamingContext.getOrCreate(checkpoint, create)
streaming.start()
print("started", flush=True)
streaming.awaitTermination()
