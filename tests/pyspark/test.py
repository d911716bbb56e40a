"""Kills a pyspark application whose lines are in ferrowal's log and in no batch yet: started again, it processes them all.

test.py SPARK_SUBMIT FERROWAL_JAR WORK   — started by `run`, with the Python that pyspark is installed in.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

LINES = [f"line {number:04d} of the socket" for number in range(200)]
BOUND = 180
# From batch to batch.
SECONDS = 20

submit, jar, work = sys.argv[1:]
shutil.rmtree(work, ignore_errors=True)
os.makedirs(work)
log, processed = os.path.join(work, "log"), os.path.join(work, "processed")


class Application:
    """The application in a process group of its own, and what it prints."""

    def __init__(self, name, port, seconds):
        confs = {
            "spark.streaming.receiver.writeAheadLog.enable": "true",
            "spark.streaming.receiver.writeAheadLog.class": "org.ferrowal.spark.ReceiverWriteAheadLog",
            "spark.streaming.driver.writeAheadLog.class": "org.ferrowal.spark.DriverWriteAheadLog",
            "spark.ferrowal.dir": log,
            "spark.ui.enabled": "false",
            "spark.driver.host": "localhost",
            "spark.driver.bindAddress": "127.0.0.1",
        }
        command = [submit, "--master", "local[4]", "--name", name, "--jars", jar]
        for key, value in confs.items():
            command += ["--conf", f"{key}={value}"]
        here = os.path.dirname(os.path.abspath(__file__))
        command += [os.path.join(here, "application.py"), os.path.join(work, "checkpoint"), str(port), str(seconds), processed]
        self.lines, self.said = [], threading.Condition()
        environment = {**os.environ, "PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}
        environment.pop("SPARK_HOME", None)
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                        env=environment, start_new_session=True)
        threading.Thread(target=self.listen, args=(os.path.join(work, name + ".out"),), daemon=True).start()

    def listen(self, path):
        with open(path, "w") as out:
            for line in self.process.stdout:
                out.write(line)
                out.flush()
                with self.said:
                    self.lines.append(line)
                    self.said.notify_all()
        with self.said:
            self.lines.append(None)
            self.said.notify_all()

    def wait_for(self, wanted):
        """Waits until something printed so far is wanted."""
        with self.said:
            found = self.said.wait_for(lambda: None in self.lines or any(wanted(l) for l in self.lines), BOUND)
            assert found and any(l is not None and wanted(l) for l in self.lines), "".join(l or "" for l in self.lines[-80:])

    def kill(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(BOUND)


def in_log():
    """How many lines are in the log, seen by ferrowal's own tool."""
    tool = subprocess.run(["java", "-jar", jar, "dump", "--receivers", "--format", "raw", log], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL)
    return sum(line.encode() in tool.stdout for line in LINES)


def noted():
    if not os.path.exists(processed):
        return []
    with open(processed) as lines:
        return lines.read().splitlines()


listener = socket.create_server(("127.0.0.1", 0))
port = listener.getsockname()[1]


def serve():
    connection, _ = listener.accept()
    send.wait()
    for line in LINES:
        connection.sendall((line + "\n").encode())
    # Open until the end: a receiver whose connection ends asks for another one.
    connections.append(connection)


def checkpointed():
    directory = os.path.join(work, "checkpoint")
    return os.path.isdir(directory) and any(re.fullmatch(r"checkpoint-\d+", name) for name in os.listdir(directory))


connections, send = [], threading.Event()
threading.Thread(target=serve, daemon=True).start()

# Spark can go on only from a checkpoint, which it makes with its first batch. The lines come right after it, and are in
# the log alone until the second.
first = Application("first", port, SECONDS)
try:
    first.wait_for(lambda line: line.startswith("started"))
    first.wait_for(lambda line: line.startswith("batch "))
    first.wait_for(lambda _: checkpointed())
    send.set()
    until = time.monotonic() + SECONDS
    found = in_log()
    while found < len(LINES) and time.monotonic() < until:
        found = in_log()
    assert found == len(LINES), f"only {found} lines are in the log"
    assert noted() == [], "a batch came too early"
finally:
    first.kill()

second = Application("second", port, SECONDS)
try:
    # Spark makes up for the batches that were missed, at once.
    second.wait_for(lambda line: line.startswith("batch ") and sorted(set(noted())) == LINES)
finally:
    second.kill()
assert sorted(noted()) == LINES, "lines came twice"
print(f"pyspark: {len(LINES)} lines that were in the log alone survived kill -9, and each came in one batch")
