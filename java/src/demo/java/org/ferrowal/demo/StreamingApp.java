package org.ferrowal.demo;

import java.nio.file.Path;

import org.apache.spark.SparkConf;
import org.apache.spark.api.java.JavaRDD;
import org.apache.spark.streaming.Duration;
import org.apache.spark.streaming.Time;
import org.apache.spark.streaming.api.java.JavaReceiverInputDStream;
import org.apache.spark.streaming.api.java.JavaStreamingContext;

/**
 * The application that gets killed: consumes a queue, checks each message, writes what it found to the {@link Sink}.
 * Checkpointed, and recovered from its checkpoint when it is started again.
 *
 * <p>Nothing in it knows of a write-ahead log: which one it has is configuration alone ({@code spark.*} system properties,
 * as {@code spark-submit --conf} sets them). Arguments: checkpoint directory, sink directory, broker, queue, batch
 * interval in milliseconds.
 */
@SuppressWarnings("deprecation") // DStreams, as a whole, since Spark 3.4.
public final class StreamingApp {
    private StreamingApp() {
    }

    /** Runs until it is killed, or its standard input ends. */
    public static void main(String[] args) throws Exception {
        JavaProcess.endWithInput();
        String checkpoint = args[0];
        JavaStreamingContext context = JavaStreamingContext.getOrCreate(checkpoint,
            () -> create(checkpoint, args[1], args[2], args[3], Long.parseLong(args[4])));
        context.start();
        context.awaitTermination();
    }

    private static JavaStreamingContext create(String checkpoint, String sink, String brokerUrl, String queue,
            long batchMillis) {
        JavaStreamingContext context = new JavaStreamingContext(new SparkConf(), new Duration(batchMillis));
        context.checkpoint(checkpoint);
        JavaReceiverInputDStream<byte[]> messages = context.receiverStream(new QueueReceiver(brokerUrl, queue));
        messages.foreachRDD((JavaRDD<byte[]> batch, Time time) -> {
            long batchTime = time.milliseconds();
            batch.foreachPartition(partition -> Sink.write(Path.of(sink), batchTime, partition));
            Sink.complete(Path.of(sink), batchTime);
        });
        return context;
    }
}
