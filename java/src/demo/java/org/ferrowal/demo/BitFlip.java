package org.ferrowal.demo;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.Iterator;
import java.util.List;
import java.util.Set;
import java.util.stream.Stream;

import org.apache.spark.streaming.util.WriteAheadLog;
import org.apache.spark.streaming.util.WriteAheadLogRecordHandle;

/**
 * The program of the second act: writes a few records, closes the log, flips one bit of one payload on disk, and reads
 * back. Prints where the bit was, and for each way to read what came: {@code <way> returned|altered|threw <text>}.
 * Argument: a directory that exists and is empty.
 */
public final class BitFlip {
    /** In how many ways it reads back. */
    static final int WAYS = 2;

    private static final int RECORDS = 5;
    private static final int VICTIM = 3;
    /** Flipping it makes 1 a 9. */
    private static final int BIT = 0x08;

    private BitFlip() {
    }

    /** Runs it. */
    public static void main(String[] args) throws IOException {
        JavaProcess.endWithInput();
        Path dir = Path.of(args[0]);
        List<String> records = new ArrayList<>();
        List<WriteAheadLogRecordHandle> handles = new ArrayList<>();
        WriteAheadLog log = ReceiverLog.open(dir);
        for (int i = 1; i <= RECORDS; i++) {
            records.add("transfer no. " + i + ": pay 1,000 EUR to account 4711");
            ByteBuffer bytes = ByteBuffer.wrap(records.get(i - 1).getBytes(StandardCharsets.UTF_8));
            handles.add(log.write(bytes, System.currentTimeMillis()));
        }
        log.close();
        flip(dir, records.get(VICTIM - 1));

        WriteAheadLog again = ReceiverLog.open(dir);
        Set<String> written = new HashSet<>(records);
        try {
            report("read(handle)", text(again.read(handles.get(VICTIM - 1))), written);
        } catch (RuntimeException e) {
            System.out.println("read(handle) threw " + ReceiverLog.reason(e));
        }
        try {
            for (Iterator<ByteBuffer> all = again.readAll(); all.hasNext();) {
                report("readAll()", text(all.next()), written);
            }
        } catch (RuntimeException e) {
            System.out.println("readAll() threw " + ReceiverLog.reason(e));
        }
        again.close();
        Runtime.getRuntime().halt(0);
    }

    private static void report(String way, String text, Set<String> written) {
        System.out.println(way + (written.contains(text) ? " returned " : " altered ") + text);
    }

    private static String text(ByteBuffer buffer) {
        return new String(ReceiverLog.bytes(buffer), StandardCharsets.UTF_8);
    }

    /** Flips the bit in the one file that holds the record. */
    private static void flip(Path dir, String record) throws IOException {
        byte[] wanted = record.getBytes(StandardCharsets.UTF_8);
        try (Stream<Path> files = Files.walk(dir)) {
            for (Path file : files.filter(Files::isRegularFile).toList()) {
                byte[] content = Files.readAllBytes(file);
                for (int at = 0; at + wanted.length <= content.length; at++) {
                    if (Arrays.equals(content, at, at + wanted.length, wanted, 0, wanted.length)) {
                        int place = at + record.indexOf("1,000");
                        content[place] ^= BIT;
                        Files.write(file, content);
                        System.out.println("flipped " + dir.relativize(file) + " at byte " + place);
                        return;
                    }
                }
            }
        }
        throw new IOException("No file in " + dir + " holds the bytes of the record");
    }
}
