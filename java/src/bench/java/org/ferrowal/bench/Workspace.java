package org.ferrowal.bench;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.Locale;

import picocli.CommandLine;
import picocli.CommandLine.Option;

/** Where a benchmark works, and where it leaves what it found: flags that all commands have. */
final class Workspace {
    @Option(names = "--dir", description = "Where the logs are written: on the device to measure "
        + "(default build/bench/work). A directory of the benchmark's own is made there and deleted at the end.")
    private Path dir;
    @Option(names = "--charts", description = "Copies the charts that docs/benchmarks.md shows to this directory as well.")
    private Path charts;
    @Option(names = {"-h", "--help"}, usageHelp = true, description = "Shows this.")
    private boolean help;

    private Path work;

    /** Where results are left. */
    Path home() {
        return Path.of(System.getProperty("bench.dir", "build/bench"));
    }

    /** A directory of this run's own, deleted when the JVM ends. */
    Path work() throws IOException {
        if (work == null) {
            Path parent = dir != null ? dir : home().resolve("work");
            Files.createDirectories(parent);
            Path made = Files.createTempDirectory(parent.toRealPath(), "bench-");
            Runtime.getRuntime().addShutdownHook(new Thread(() -> deleteQuietly(made, parent)));
            work = made;
        }
        return work;
    }

    /** A path as it is shown: from where the benchmark was started, so that reports can be published. */
    static String shown(Path path) {
        Path here = Path.of("").toAbsolutePath();
        Path there = path.toAbsolutePath();
        return (there.startsWith(here) ? here.relativize(there) : there).toString();
    }

    /** Puts a chart where the documents take it from, if this was asked for. */
    void publish(Path chart) throws IOException {
        if (charts != null) {
            Files.createDirectories(charts);
            Files.copy(chart, charts.resolve(chart.getFileName()), StandardCopyOption.REPLACE_EXISTING);
        }
    }

    /** Says what machine this is. */
    void describe() throws IOException {
        System.out.println("Machine: " + Machine.describe(work()) + "; load average " + Machine.load() + ".");
        if (Device.isMemory(work())) {
            System.out.println("This directory lies in memory: the figures say nothing about a device.");
        }
    }

    /** One line that changes, on a terminal; nothing otherwise. */
    static void progress(String text) {
        if (System.console() != null) {
            System.err.print("\r\033[K" + text);
            System.err.flush();
        }
    }

    private static void deleteQuietly(Path work, Path parent) {
        try {
            WorkFiles.delete(work);
            try (var others = Files.list(parent)) {
                if (parent.endsWith("work") && others.findAny().isEmpty()) {
                    Files.delete(parent);
                }
            }
        } catch (IOException e) {
            System.err.println("Left behind, please delete it: " + work + " (" + e + ")");
        }
    }

    /** Reads {@code 100}, {@code 64k}, {@code 1m}, {@code 10g}. */
    static final class Bytes implements CommandLine.ITypeConverter<Long> {
        @Override
        public Long convert(String value) {
            String text = value.strip().toLowerCase(Locale.ROOT);
            int shift = text.endsWith("k") ? 10 : text.endsWith("m") ? 20 : text.endsWith("g") ? 30 : 0;
            try {
                long bytes = Long.parseLong(shift == 0 ? text : text.substring(0, text.length() - 1)) << shift;
                if (bytes >= 1 && bytes <= 1L << 42) {
                    return bytes;
                }
            } catch (NumberFormatException e) {
                throw new CommandLine.TypeConversionException("'" + value + "' is not a size such as 100, 64k or 1m");
            }
            throw new CommandLine.TypeConversionException("'" + value + "' is not a sensible size");
        }
    }
}
