package org.ferrowal.spark;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.UUID;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.spark.SparkConf;
import org.apache.spark.storage.StorageLevel;
import org.apache.spark.streaming.Milliseconds;
import org.apache.spark.streaming.api.java.JavaDStream;
import org.apache.spark.streaming.api.java.JavaStreamingContext;
import org.apache.spark.streaming.receiver.Receiver;

/**
 * A checkpointed streaming application with reliable receivers, for the tests to kill. A receiver makes numbered records,
 * stores some at a time, and notes them in a file of its own once {@code store} returned; the driver checks every record
 * and notes it, with its batch, in another.
 *
 * <p>Arguments: directory, receivers, batch interval in ms, records of a block, bytes of a record, ms between blocks.
 */
@SuppressWarnings("deprecation") // Spark deprecates DStreams, and with them its log
public final class App {
    private App() {
    }

    /** Starts, or goes on from the checkpoint, and runs until it is killed. */
    public static void main(String[] args) throws InterruptedException {
        Path dir = Path.of(args[0]);
        JavaStreamingContext context = JavaStreamingContext.getOrCreate(dir.resolve("checkpoint").toString(),
            () -> create(args));
        context.start();
        System.out.println("started");
        context.awaitTermination();
    }

    private static JavaStreamingContext create(String[] args) {
        String dir = args[0];
        JavaStreamingContext context = new JavaStreamingContext(new SparkConf().setAppName("ferrowal-test"),
            Milliseconds.apply(Long.parseLong(args[2])));
        context.checkpoint(Path.of(dir, "checkpoint").toString());
        JavaDStream<byte[]> all = null;
        for (int i = 0; i < Integer.parseInt(args[1]); i++) {
            JavaDStream<byte[]> stream = context.receiverStream(new Source(dir, i, Integer.parseInt(args[3]),
                Integer.parseInt(args[4]), Long.parseLong(args[5])));
            all = all == null ? stream : all.union(stream);
        }
        all.foreachRDD((rdd, time) -> {
            List<String> lines = rdd.map(App::verdict).collect();
            StringBuilder text = new StringBuilder();
            for (String line : lines) {
                text.append(time.milliseconds()).append(' ').append(line).append('\n');
            }
            Files.writeString(Path.of(dir, "processed"), text, StandardOpenOption.CREATE, StandardOpenOption.APPEND);
            System.out.println("batch " + time.milliseconds() + " " + lines.size());
        });
        return context;
    }

    /** A record: a line with its name and seed, then bytes that follow from the seed. */
    static byte[] record(String name, int length) {
        byte[] head = (name + "\n").getBytes(StandardCharsets.UTF_8);
        byte[] bytes = new byte[Math.max(length, head.length)];
        new Random(name.hashCode()).nextBytes(bytes);
        System.arraycopy(head, 0, bytes, 0, head.length);
        return bytes;
    }

    /** The record's name, and whether its bytes are those that were sent. */
    static String verdict(byte[] bytes) {
        int end = 0;
        while (end < bytes.length && bytes[end] != '\n') {
            end++;
        }
        String name = new String(bytes, 0, end, StandardCharsets.UTF_8);
        return name + (Arrays.equals(bytes, record(name, bytes.length)) ? " ok" : " altered");
    }

    /** A reliable receiver. */
    static final class Source extends Receiver<byte[]> {
        private static final long serialVersionUID = 1L;

        private final String dir;
        private final int number;
        private final int count;
        private final int length;
        private final long pause;
        private transient CountDownLatch stopped;

        Source(String dir, int number, int count, int length, long pause) {
            super(StorageLevel.MEMORY_AND_DISK_SER());
            this.dir = dir;
            this.number = number;
            this.count = count;
            this.length = length;
            this.pause = pause;
        }

        @Override
        public void onStart() {
            stopped = new CountDownLatch(1);
            Thread thread = new Thread(this::produce, "source-" + number);
            thread.setDaemon(true);
            thread.start();
        }

        @Override
        public void onStop() {
            stopped.countDown();
        }

        private void produce() {
            CountDownLatch stop = stopped;
            Path acknowledged = Path.of(dir, "acknowledged-" + number);
            Random random = new Random();
            try {
                // The file "quiet" ends all production: what was acknowledged is then to be processed.
                while (!stop.await(pause, TimeUnit.MILLISECONDS) && !Files.exists(Path.of(dir, "quiet"))) {
                    List<byte[]> block = new ArrayList<>();
                    StringBuilder names = new StringBuilder();
                    for (int i = 0; i < count; i++) {
                        String name = number + "/" + UUID.randomUUID();
                        block.add(record(name, length / 2 + random.nextInt(length)));
                        names.append(name).append('\n');
                    }
                    if (random.nextInt(4) == 0) {
                        storeDirect(block, names);
                    } else {
                        store(block.iterator());
                    }
                    Files.writeString(acknowledged, names, StandardOpenOption.CREATE, StandardOpenOption.APPEND);
                    System.out.println("acknowledged " + count);
                }
            } catch (IOException | InterruptedException | RuntimeException e) {
                if (!isStopped()) {
                    restart("the source failed", e);
                }
            }
        }

        /** Stores a block as serialized bytes in a direct buffer, as a receiver of network packets would. */
        private void storeDirect(List<byte[]> block, StringBuilder names) throws IOException {
            java.io.ByteArrayOutputStream bytes = new java.io.ByteArrayOutputStream();
            try (java.io.ObjectOutputStream out = new java.io.ObjectOutputStream(bytes)) {
                for (byte[] record : block) {
                    out.writeObject(record);
                }
            }
            ByteBuffer direct = ByteBuffer.allocateDirect(bytes.size() + 9);
            direct.put(bytes.toByteArray()).flip();
            store(direct);
        }
    }
}
