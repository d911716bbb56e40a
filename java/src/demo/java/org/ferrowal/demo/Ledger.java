package org.ferrowal.demo;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.HashSet;
import java.util.Set;

/**
 * The count of one run, from the broker's events and the sink's files only; no log is asked. Read on by {@link #refresh}.
 * For one thread. Times are wall-clock milliseconds, {@link #NEVER} for what has not happened.
 */
final class Ledger {
    static final long NEVER = Long.MAX_VALUE;

    private final Path events;
    private final String queue;
    private final Path sink;
    private long eventsRead;
    private String partialLine = "";
    private final Set<String> filesRead = new HashSet<>();

    /** When each message was first in the broker, delivered to the application, acknowledged, processed. */
    final long[] sent;
    final long[] received;
    final long[] acknowledged;
    final long[] processed;
    private final int[] timesProcessed;

    private int sentCount;
    private int acknowledgedCount;
    private int processedCount;
    private int wrongBytes;
    private int consumers;
    private long lastAcknowledgement;
    private long lastBatch;

    Ledger(Path events, String queue, Path sink, int messages) {
        this.events = events;
        this.queue = queue;
        this.sink = sink;
        sent = never(messages);
        received = never(messages);
        acknowledged = never(messages);
        processed = never(messages);
        timesProcessed = new int[messages];
    }

    private static long[] never(int messages) {
        long[] times = new long[messages];
        java.util.Arrays.fill(times, NEVER);
        return times;
    }

    /** Messages in the broker's queue since the start. */
    int sent() {
        return sentCount;
    }

    /** Messages that the broker has let go of, each counted once. */
    int acknowledged() {
        return acknowledgedCount;
    }

    /** Messages in the sink, intact, each counted once. */
    int processed() {
        return processedCount;
    }

    /** Messages that the broker has let go of and the sink has not seen: in flight, or lost. */
    int missing() {
        return missingBefore(NEVER);
    }

    /** Those of {@link #missing} that were acknowledged before {@code time}. */
    int missingBefore(long time) {
        int missing = 0;
        for (int i = 0; i < acknowledged.length; i++) {
            if (acknowledged[i] < time && processed[i] == NEVER) {
                missing++;
            }
        }
        return missing;
    }

    /** Messages that the sink has seen more than once. */
    int processedTwice() {
        int twice = 0;
        for (int times : timesProcessed) {
            if (times > 1) {
                twice++;
            }
        }
        return twice;
    }

    /** Lines in the sink whose message was not the one that was sent. */
    int wrongBytes() {
        return wrongBytes;
    }

    /** How often a receiver has come. */
    int consumers() {
        return consumers;
    }

    /**
     * Whether every block that was ever stored has had its batch: all is acknowledged, and a batch is complete whose time
     * is {@code margin} milliseconds later. Spark gives a block to the first batch after it was stored (to the one after
     * that if the allocation failed), and runs batches in order.
     */
    boolean settled(long margin) {
        return acknowledgedCount == acknowledged.length && lastBatch > lastAcknowledgement + margin;
    }

    /** When the first message after {@code time} was processed. */
    long firstProcessedAfter(long time) {
        long first = NEVER;
        for (long at : processed) {
            if (at > time && at < first) {
                first = at;
            }
        }
        return first;
    }

    /** Reads what is new. */
    void refresh() {
        try {
            readEvents();
            readSink();
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private void readEvents() throws IOException {
        try (FileChannel file = FileChannel.open(events, StandardOpenOption.READ)) {
            ByteBuffer bytes = ByteBuffer.allocate((int) (file.size() - eventsRead));
            while (bytes.hasRemaining() && file.read(bytes, eventsRead + bytes.position()) >= 0) {
                // Until all that was there is read.
            }
            eventsRead += bytes.position();
            String text = partialLine + new String(bytes.array(), 0, bytes.position(), StandardCharsets.US_ASCII);
            int end = text.lastIndexOf('\n') + 1;
            partialLine = text.substring(end);
            text.substring(0, end).lines().forEach(this::event);
        }
    }

    private void event(String line) {
        String[] words = line.split(" ");
        if (!words[2].equals(queue)) {
            return;
        }
        long time = Long.parseLong(words[0]);
        int number = Integer.parseInt(words[3]);
        switch (words[1]) {
            case "S" -> sentCount += first(sent, number, time);
            case "D" -> first(received, number, time);
            case "A" -> {
                acknowledgedCount += first(acknowledged, number, time);
                lastAcknowledgement = time;
            }
            case "C" -> consumers++;
            default -> throw new IllegalStateException("The broker's events have a line that is not known: " + line);
        }
    }

    private void readSink() throws IOException {
        try (DirectoryStream<Path> files = Files.newDirectoryStream(sink, "[!.]*")) {
            for (Path file : files) {
                String name = file.getFileName().toString();
                if (!filesRead.add(name)) {
                    continue;
                }
                if (name.startsWith(Sink.BATCH)) {
                    lastBatch = Math.max(lastBatch, Long.parseLong(name.substring(Sink.BATCH.length())));
                } else {
                    Files.readAllLines(file).forEach(this::output);
                }
            }
        }
    }

    private void output(String line) {
        String[] words = line.split(" ");
        long number = Long.parseLong(words[0]);
        if (!words[1].equals("ok") || number < 0 || number >= processed.length) {
            wrongBytes++; // Not that message any more, so it does not count as processed.
            return;
        }
        processedCount += first(processed, (int) number, Long.parseLong(words[2]));
        timesProcessed[(int) number]++;
    }

    private static int first(long[] times, int number, long time) {
        boolean first = times[number] == NEVER;
        times[number] = Math.min(times[number], time);
        return first ? 1 : 0;
    }
}
