package org.ferrowal.bench;

import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;

import org.apache.spark.SparkConf;
import org.apache.spark.storage.StorageLevel;
import org.apache.spark.streaming.Duration;
import org.apache.spark.streaming.api.java.JavaDStream;
import org.apache.spark.streaming.api.java.JavaStreamingContext;
import org.apache.spark.streaming.receiver.Receiver;
import org.ferrowal.bench.rows.Payload;

/**
 * The application whose metrics {@link MetricsBench} draws: receivers that store a block every so often, or, while a file is
 * there, as fast as Spark takes them; and a job that counts. Which log it has is configuration alone ({@code spark.*} system
 * properties). It says {@code started}, and runs until it is killed.
 */
@SuppressWarnings("deprecation") // DStreams, as a whole, since Spark 3.4.
public final class MetricsApp {
    private MetricsApp() {
    }

    /**
     * Runs.
     *
     * @param args the checkpoint directory; receivers; bytes in a record; records in a block; milliseconds from block to
     *     block; the file that makes them hurry while it is there
     */
    public static void main(String[] args) throws Exception {
        JavaStreamingContext context = new JavaStreamingContext(new SparkConf(), new Duration(1000));
        context.checkpoint(args[0]);
        List<JavaDStream<byte[]>> streams = new ArrayList<>();
        for (int i = 0; i < Integer.parseInt(args[1]); i++) {
            streams.add(context.receiverStream(new Source(Integer.parseInt(args[2]), Integer.parseInt(args[3]),
                Long.parseLong(args[4]), args[5])));
        }
        JavaDStream<byte[]> all = streams.get(0);
        for (JavaDStream<byte[]> more : streams.subList(1, streams.size())) {
            all = all.union(more);
        }
        all.foreachRDD(batch -> {
            batch.count();
        });
        context.start();
        System.out.println("started");
        System.out.flush();
        context.awaitTermination();
    }

    /** Stores blocks of records, with a pause in between or without. */
    private static final class Source extends Receiver<byte[]> {
        private static final long serialVersionUID = 1;

        private final int size;
        private final int block;
        private final long pause;
        private final String hurry;

        Source(int size, int block, long pause, String hurry) {
            super(StorageLevel.MEMORY_AND_DISK_SER());
            this.size = size;
            this.block = block;
            this.pause = pause;
            this.hurry = hurry;
        }

        @Override
        public void onStart() {
            Thread thread = new Thread(this::run, "bench-receiver");
            thread.setDaemon(true);
            thread.start();
        }

        private void run() {
            byte[] record = Payload.of(size, streamId());
            Path file = Path.of(hurry);
            long next = System.nanoTime();
            while (!isStopped()) {
                List<byte[]> records = new ArrayList<>(block);
                for (int i = 0; i < block; i++) {
                    byte[] own = record.clone();
                    ByteBuffer.wrap(own).putInt(i);
                    records.add(own);
                }
                // Returns when the block is in the write-ahead log.
                store(records.iterator());
                long now = System.nanoTime();
                // A source that had to wait is not in arrears, and one that hurried not ahead.
                next = Files.exists(file) ? now : Math.max(next + TimeUnit.MILLISECONDS.toNanos(pause), now);
                while (next - System.nanoTime() > 0 && !isStopped()) {
                    LockSupport.parkNanos(next - System.nanoTime());
                }
            }
        }

        @Override
        public void onStop() {
            // The thread sees isStopped.
        }
    }
}
