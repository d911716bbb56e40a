package org.ferrowal.demo;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.ObjectOutputStream;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicInteger;

import org.apache.spark.streaming.util.WriteAheadLog;

/**
 * The program whose system calls the third act records: several threads write to one log, and after each write that
 * returned, a line goes to {@code acknowledgements}: the record's number and its handle. It ends as a power cut would
 * end it, without closing the log. Arguments: log directory, acknowledgements, records, threads.
 */
public final class LogWriter {
    private LogWriter() {
    }

    /** Runs it. */
    public static void main(String[] args) throws IOException, InterruptedException, ExecutionException {
        JavaProcess.endWithInput();
        WriteAheadLog log = ReceiverLog.open(Path.of(args[0]));
        FileChannel acknowledgements = FileChannel.open(Path.of(args[1]),
            StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE);
        int records = Integer.parseInt(args[2]);
        int threads = Integer.parseInt(args[3]);
        AtomicInteger next = new AtomicInteger();
        ExecutorService writers = Executors.newFixedThreadPool(threads);
        List<Future<Void>> all = new ArrayList<>();
        for (int i = 0; i < threads; i++) {
            all.add(writers.submit(() -> {
                for (int number; (number = next.getAndIncrement()) < records;) {
                    Object handle = log.write(ByteBuffer.wrap(Message.encode(number)), System.currentTimeMillis());
                    byte[] line = (number + " " + hex(handle) + "\n").getBytes(StandardCharsets.US_ASCII);
                    synchronized (acknowledgements) {
                        acknowledgements.write(ByteBuffer.wrap(line));
                    }
                }
                return null;
            }));
        }
        for (Future<Void> writer : all) {
            writer.get();
        }
        Runtime.getRuntime().halt(0);
    }

    private static String hex(Object handle) throws IOException {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        try (ObjectOutputStream out = new ObjectOutputStream(bytes)) {
            out.writeObject(handle);
        }
        return HexFormat.of().formatHex(bytes.toByteArray());
    }
}
