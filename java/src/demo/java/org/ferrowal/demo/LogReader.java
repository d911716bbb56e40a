package org.ferrowal.demo;

import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.ObjectInputStream;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashSet;
import java.util.HexFormat;
import java.util.Iterator;
import java.util.List;
import java.util.Set;

import org.apache.spark.streaming.util.WriteAheadLog;
import org.apache.spark.streaming.util.WriteAheadLogRecordHandle;

/**
 * The program that reads what a power cut left, and compares it with what had been acknowledged. Arguments: a file with
 * acknowledgements (lines of {@link LogWriter}), whether to read by handle too, and for each cut the number of lines that
 * had been written before it and the directory. A line for each: {@code <acknowledged> <recovered> <altered> <text>}.
 */
public final class LogReader {
    private LogReader() {
    }

    /** Runs it. */
    public static void main(String[] args) throws IOException, ClassNotFoundException {
        JavaProcess.endWithInput();
        List<String> acknowledgements = Files.readAllLines(Path.of(args[0]));
        boolean byHandle = Boolean.parseBoolean(args[1]);
        for (int i = 2; i < args.length; i += 2) {
            System.out.println(check(acknowledgements.subList(0, Integer.parseInt(args[i])), byHandle, Path.of(args[i + 1])));
        }
        Runtime.getRuntime().halt(0);
    }

    private static String check(List<String> acknowledged, boolean byHandle, Path dir)
            throws IOException, ClassNotFoundException {
        Set<Long> found = new HashSet<>();
        int altered = 0;
        String trouble = "";
        WriteAheadLog log = ReceiverLog.open(dir);
        try {
            for (Iterator<ByteBuffer> all = log.readAll(); all.hasNext();) {
                byte[] message = ReceiverLog.bytes(all.next());
                if (Message.intact(message)) {
                    found.add(Message.number(message));
                } else {
                    altered++;
                }
            }
        } catch (RuntimeException e) {
            trouble = "readAll: " + ReceiverLog.reason(e);
        }
        int recovered = 0;
        for (String line : acknowledged) {
            String[] words = line.split(" ");
            boolean back = found.contains(Long.parseLong(words[0]));
            if (back && byHandle) {
                try {
                    byte[] message = ReceiverLog.bytes(log.read(handle(words[1])));
                    if (!Message.intact(message) || Message.number(message) != Long.parseLong(words[0])) {
                        altered++;
                        back = false;
                    }
                } catch (RuntimeException e) {
                    trouble = "read: " + ReceiverLog.reason(e);
                    back = false;
                }
            }
            recovered += back ? 1 : 0;
        }
        log.close();
        return acknowledged.size() + " " + recovered + " " + altered + " " + trouble;
    }

    private static WriteAheadLogRecordHandle handle(String hex) throws IOException, ClassNotFoundException {
        try (ObjectInputStream in = new ObjectInputStream(new ByteArrayInputStream(HexFormat.of().parseHex(hex)))) {
            return (WriteAheadLogRecordHandle) in.readObject();
        }
    }
}
