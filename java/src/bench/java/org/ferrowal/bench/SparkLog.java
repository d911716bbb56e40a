package org.ferrowal.bench;

import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.util.Map;

import org.apache.hadoop.conf.Configuration;
import org.apache.spark.SparkConf;
import org.apache.spark.streaming.util.WriteAheadLog;
import org.apache.spark.streaming.util.WriteAheadLogUtils;

/**
 * A receivers' log as Spark itself makes it: from the configuration alone, by Spark's own factory. So the rows differ in
 * their {@code --conf} lines, and in nothing else.
 *
 * @param conf the keys that make this log; {@code DIRECTORY} in a value stands for the log's directory
 */
record SparkLog(String id, String title, boolean durable, String words, Map<String, String> conf)
        implements Contender {
    /** See {@link #conf}. */
    static final String DIRECTORY = "${directory}";

    @Override
    public Appender open(Path directory) {
        SparkConf spark = new SparkConf(false).set("spark.master", "local[*]")
            .set("spark.streaming.receiver.writeAheadLog.enable", "true");
        conf.forEach((key, value) -> spark.set(key, value.replace(DIRECTORY, directory.toUri().toString())));
        // The directory is for FileBasedWriteAheadLog; Spark gives a custom class the configuration only.
        WriteAheadLog log = WriteAheadLogUtils.createLogForReceiver(spark, directory.toUri().toString(),
            new Configuration());
        return new Appender() {
            @Override
            public void write(byte[] record, long time) {
                // A fresh heap buffer at position 0, as a receiver's serialized block is.
                if (log.write(ByteBuffer.wrap(record), time) == null) {
                    throw new BenchException(title + " returned no handle");
                }
            }

            @Override
            public void clean(long threshold) {
                log.clean(threshold, false);
            }

            @Override
            public void close() {
                log.close();
            }
        };
    }
}
