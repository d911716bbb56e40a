package org.ferrowal.bench;

import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;

import org.apache.spark.SparkConf;
import org.apache.spark.api.java.JavaRDD;
import org.apache.spark.storage.StorageLevel;
import org.apache.spark.streaming.Duration;
import org.apache.spark.streaming.api.java.JavaDStream;
import org.apache.spark.streaming.api.java.JavaStreamingContext;
import org.apache.spark.streaming.receiver.Receiver;
import org.apache.spark.streaming.scheduler.BatchInfo;
import org.apache.spark.streaming.scheduler.StreamingListener;
import org.apache.spark.streaming.scheduler.StreamingListenerBatchCompleted;
import org.apache.spark.streaming.scheduler.StreamingListenerBatchStarted;
import org.apache.spark.streaming.scheduler.StreamingListenerBatchSubmitted;
import org.apache.spark.streaming.scheduler.StreamingListenerOutputOperationCompleted;
import org.apache.spark.streaming.scheduler.StreamingListenerOutputOperationStarted;
import org.apache.spark.streaming.scheduler.StreamingListenerReceiverError;
import org.apache.spark.streaming.scheduler.StreamingListenerReceiverStarted;
import org.apache.spark.streaming.scheduler.StreamingListenerReceiverStopped;
import org.apache.spark.streaming.scheduler.StreamingListenerStreamingStarted;
import org.ferrowal.bench.rows.Payload;

import scala.Option;

/**
 * The application that {@link SparkBench} measures: receivers that store blocks as fast as Spark takes them, or at a given
 * rate, and a job that looks at every record. Which log it has is configuration alone ({@code spark.*} system properties). It says {@code
 * result RECORDS_PER_S DELAY_P50_MS DELAY_P99_MS RECORDS} and {@code threads …}, what {@link ThreadTimes} has of the counted
 * batches, and ends.
 */
@SuppressWarnings("deprecation") // DStreams, as a whole, since Spark 3.4.
public final class SparkApp {
    private SparkApp() {
    }

    /**
     * Runs.
     *
     * @param args the checkpoint directory, or "none"; receivers; bytes in a record; records in a block; batches that do not
     *     count; batches that do; the batch interval in milliseconds; records a second of each receiver, 0 for as many as it
     *     can store
     */
    public static void main(String[] args) throws Exception {
        int receivers = Integer.parseInt(args[1]);
        int size = Integer.parseInt(args[2]);
        int block = Integer.parseInt(args[3]);
        int warm = Integer.parseInt(args[4]);
        int counted = Integer.parseInt(args[5]);
        long interval = Long.parseLong(args[6]);
        long rate = Long.parseLong(args[7]);
        JavaStreamingContext context = new JavaStreamingContext(new SparkConf(), new Duration(interval));
        if (!args[0].equals("none")) {
            context.checkpoint(args[0]);
        }
        List<JavaDStream<byte[]>> streams = new ArrayList<>();
        for (int i = 0; i < receivers; i++) {
            streams.add(context.receiverStream(new Source(size, block, rate)));
        }
        JavaDStream<byte[]> all = streams.get(0);
        for (JavaDStream<byte[]> more : streams.subList(1, streams.size())) {
            all = all.union(more);
        }
        all.foreachRDD((JavaRDD<byte[]> batch) -> batch.foreachPartition(partition -> {
            long sum = 0;
            while (partition.hasNext()) {
                byte[] record = partition.next();
                sum += record[0] + record[record.length - 1];
            }
            if (sum == Long.MIN_VALUE) {
                throw new IllegalStateException("never; but the sum is used");
            }
        }));
        Batches batches = new Batches(warm, counted);
        context.ssc().addStreamingListener(batches);
        context.start();
        batches.done.await();
        System.out.println("result " + batches.result(interval));
        System.out.println("threads " + batches.threads);
        System.out.flush();
        // Not stopped: to wait for receivers and pools says nothing about what is measured.
        Runtime.getRuntime().halt(0);
    }

    /** Stores blocks of records, one after the other, as fast as it is let, or at a rate. */
    private static final class Source extends Receiver<byte[]> {
        private static final long serialVersionUID = 1;

        private final int size;
        private final int block;
        private final long rate;

        Source(int size, int block, long rate) {
            super(StorageLevel.MEMORY_AND_DISK_SER());
            this.size = size;
            this.block = block;
            this.rate = rate;
        }

        @Override
        public void onStart() {
            Thread thread = new Thread(this::run, "bench-receiver");
            thread.setDaemon(true);
            thread.start();
        }

        private void run() {
            byte[] record = Payload.of(size, streamId());
            long due = System.nanoTime();
            while (!isStopped()) {
                if (rate > 0) {
                    // What it falls behind by it makes up for, but no more than a second's.
                    due = Math.max(due, System.nanoTime() - TimeUnit.SECONDS.toNanos(1)) + TimeUnit.SECONDS.toNanos(block) / rate;
                    for (long left = due - System.nanoTime(); left > 0 && !isStopped(); left = due - System.nanoTime()) {
                        LockSupport.parkNanos(left);
                    }
                }
                List<byte[]> records = new ArrayList<>(block);
                for (int i = 0; i < block; i++) {
                    byte[] own = record.clone();
                    ByteBuffer.wrap(own).putInt(i);
                    records.add(own);
                }
                // Returns when the block is in the write-ahead log, where there is one.
                store(records.iterator());
            }
        }

        @Override
        public void onStop() {
            // The thread sees isStopped.
        }
    }

    /** Counts the records of complete batches. */
    private static final class Batches implements StreamingListener {
        private final CountDownLatch done = new CountDownLatch(1);
        private final List<Long> delays = new ArrayList<>();
        private final int warm;
        private final int counted;
        private int seen;
        private long records;
        private ThreadTimes began = ThreadTimes.now();
        private String threads;

        Batches(int warm, int counted) {
            this.warm = warm;
            this.counted = counted;
        }

        @Override
        public synchronized void onBatchCompleted(StreamingListenerBatchCompleted completed) {
            BatchInfo info = completed.batchInfo();
            if (++seen <= warm || done.getCount() == 0) {
                if (seen == warm) {
                    began = ThreadTimes.now();
                }
                return;
            }
            records += info.numRecords();
            Option<Object> delay = info.processingDelay();
            delays.add(delay.isDefined() ? (Long) delay.get() : 0L);
            if (delays.size() == counted) {
                threads = ThreadTimes.now().since(began);
                done.countDown();
            }
        }

        synchronized String result(long interval) {
            Collections.sort(delays);
            return String.format(Locale.ROOT, "%.1f %d %d %d", records / (counted * interval / 1e3), delays.get(counted / 2),
                delays.get(Math.min(counted * 99 / 100, counted - 1)), records);
        }

        @Override
        public void onStreamingStarted(StreamingListenerStreamingStarted started) {
            // Not of interest, as the rest.
        }

        @Override
        public void onReceiverStarted(StreamingListenerReceiverStarted started) {
        }

        @Override
        public void onReceiverError(StreamingListenerReceiverError error) {
            System.err.println("a receiver failed: " + error.receiverInfo().lastErrorMessage() + " "
                + error.receiverInfo().lastError());
        }

        @Override
        public void onReceiverStopped(StreamingListenerReceiverStopped stopped) {
        }

        @Override
        public void onBatchSubmitted(StreamingListenerBatchSubmitted submitted) {
        }

        @Override
        public void onBatchStarted(StreamingListenerBatchStarted started) {
        }

        @Override
        public void onOutputOperationStarted(StreamingListenerOutputOperationStarted started) {
        }

        @Override
        public void onOutputOperationCompleted(StreamingListenerOutputOperationCompleted completed) {
        }
    }
}
