package org.ferrowal.bench.rows;

import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;

import org.apache.hadoop.conf.Configuration;
import org.apache.spark.SparkConf;
import org.apache.spark.streaming.util.WriteAheadLog;
import org.apache.spark.streaming.util.WriteAheadLogUtils;
import org.ferrowal.bench.BenchException;

/**
 * A log as Spark itself makes it: from the configuration alone, by Spark's own factory. So the rows differ in their
 * {@code --conf} lines, and in nothing else.
 *
 * @param driver whether it is made as the driver's log (which Spark wraps into one that batches) or as a receiver's
 * @param conf the keys that make this log; {@code DIRECTORY} in a value stands for the log's directory
 */
public record SparkLog(String id, String title, boolean durable, String words, boolean driver, Map<String, String> conf)
        implements JvmLog {
    /** See {@link #conf}. */
    static final String DIRECTORY = "${directory}";

    /** Made once, as Spark does: it reads files. */
    private static final Configuration HADOOP = new Configuration();

    /** ferrowal deletes, or keeps, files three cleans and a grace after their last record. */
    @Override
    public double warmUp() {
        return id.equals("ferrowal") ? 6 : 0;
    }

    /** The log itself, for what more can be done with one than {@link JvmLog.Appender} says. */
    public WriteAheadLog create(Path directory) {
        return create(directory.toUri().toString(), HADOOP);
    }

    /** The same in any home, with Hadoop's keys for Spark's own. */
    public WriteAheadLog create(String uri, Configuration hadoop) {
        SparkConf spark = new SparkConf(false).set("spark.master", "local[*]")
            .set("spark.streaming.receiver.writeAheadLog.enable", "true");
        conf.forEach((key, value) -> spark.set(key, value.replace(DIRECTORY, uri)));
        // The directory is for FileBasedWriteAheadLog; Spark gives a custom class the configuration only.
        return driver ? WriteAheadLogUtils.createLogForDriver(spark, uri, hadoop)
            : WriteAheadLogUtils.createLogForReceiver(spark, uri, hadoop);
    }

    /** The same row with other keys besides. */
    public SparkLog with(Map<String, String> more) {
        Map<String, String> all = new HashMap<>(conf);
        all.putAll(more);
        return new SparkLog(id, title, durable, words, driver, Map.copyOf(all));
    }

    @Override
    public Appender open(Path directory, int size) {
        WriteAheadLog log = create(directory);
        return new Appender() {
            @Override
            public void write(byte[] record, long time) {
                // A fresh heap buffer at position 0, as a receiver's serialized block is.
                if (log.write(ByteBuffer.wrap(record), time) == null && !driver) {
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
