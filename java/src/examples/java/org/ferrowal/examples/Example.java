package org.ferrowal.examples;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Comparator;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;

import org.apache.spark.SparkConf;
import org.apache.spark.streaming.Milliseconds;
import org.apache.spark.streaming.api.java.JavaStreamingContext;
import org.apache.spark.streaming.receiver.Receiver;

/**
 * What the examples share: a streaming application with ferrowal as its log, by configuration alone, that ends when every
 * message was processed.
 */
@SuppressWarnings("deprecation") // Spark deprecates DStreams, and with them its log.
final class Example {
    private static final long BATCH_MILLIS = 500;
    private static final long PATIENCE_SECONDS = 120;

    /** Not in the lambda below: Spark writes that into the checkpoint, with everything that it refers to. */
    private static final Set<String> PROCESSED = ConcurrentHashMap.newKeySet();
    private static final CountDownLatch ALL = new CountDownLatch(1);

    private Example() {
    }

    /**
     * Runs an application on what {@code receiver} gives, until {@code expected} different messages were processed.
     *
     * @throws IllegalStateException if that takes longer than two minutes
     */
    static void run(String name, Receiver<String> receiver, int expected) throws IOException, InterruptedException {
        Path directory = Files.createTempDirectory("ferrowal-example-");
        SparkConf conf = new SparkConf().setMaster("local[3]").setAppName(name)
            // These lines are all that there is to using ferrowal. An application of yours has them in its spark-submit.
            .set("spark.streaming.receiver.writeAheadLog.enable", "true")
            .set("spark.streaming.receiver.writeAheadLog.class", "org.ferrowal.spark.ReceiverWriteAheadLog")
            .set("spark.streaming.driver.writeAheadLog.class", "org.ferrowal.spark.DriverWriteAheadLog")
            .set("spark.ferrowal.dir", directory.resolve("log").toString())
            .set("spark.ui.enabled", "false");
        JavaStreamingContext context = new JavaStreamingContext(conf, Milliseconds.apply(BATCH_MILLIS));
        context.checkpoint(directory.resolve("checkpoint").toString());
        context.receiverStream(receiver).foreachRDD((rdd, time) -> {
            PROCESSED.addAll(rdd.collect());
            System.out.println(name + ": " + PROCESSED.size() + " of " + expected + " messages processed");
            if (PROCESSED.size() >= expected) {
                ALL.countDown();
            }
        });
        context.start();
        boolean done = ALL.await(PATIENCE_SECONDS, TimeUnit.SECONDS);
        context.stop(true, false);
        delete(directory);
        if (!done) {
            throw new IllegalStateException(
                "only " + PROCESSED.size() + " of " + expected + " messages came within " + PATIENCE_SECONDS + " seconds");
        }
    }

    /** A message's text; they are numbered from 0. */
    static String message(int number) {
        return "message " + number;
    }

    private static void delete(Path directory) throws IOException {
        try (Stream<Path> files = Files.walk(directory)) {
            files.sorted(Comparator.reverseOrder()).forEach(file -> {
                try {
                    Files.delete(file);
                } catch (IOException e) {
                    throw new UncheckedIOException(e);
                }
            });
        }
    }
}
