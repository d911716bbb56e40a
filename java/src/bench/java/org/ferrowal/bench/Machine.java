package org.ferrowal.bench;

import java.io.IOException;
import java.nio.file.FileStore;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Locale;

/** Describes where the figures come from. */
final class Machine {
    private Machine() {
    }

    /** Cores, memory, kernel, file system and JVM, on one line. */
    static String describe(Path directory) throws IOException {
        FileStore store = Files.getFileStore(directory);
        return String.format(Locale.ROOT, "%d cores%s, %s memory, %s %s %s, %s on %s, Java %s",
            Runtime.getRuntime().availableProcessors(), cpu(), memory(), System.getProperty("os.name"),
            System.getProperty("os.version"), System.getProperty("os.arch"), store.type(), store.name(),
            System.getProperty("java.version"));
    }

    /** How many processes ran or waited for the disk, on average over the last minute; empty where that is not known. */
    static String load() {
        String text = read("/proc/loadavg");
        return text.isEmpty() ? "" : text.substring(0, text.indexOf(' '));
    }

    private static String cpu() {
        return read("/proc/cpuinfo").lines().filter(line -> line.startsWith("model name")).findFirst()
            .map(line -> " (" + line.substring(line.indexOf(':') + 1).strip() + ")").orElse("");
    }

    private static String memory() {
        return read("/proc/meminfo").lines().filter(line -> line.startsWith("MemTotal:")).findFirst()
            .map(line -> String.format(Locale.ROOT, "%.0f GB",
                Long.parseLong(line.replaceAll("\\D", "")) * 1024 / 1e9)).orElse("unknown");
    }

    private static String read(String file) {
        try {
            return Files.readString(Path.of(file));
        } catch (IOException e) {
            return ""; // Not Linux: the description has less in it.
        }
    }
}
