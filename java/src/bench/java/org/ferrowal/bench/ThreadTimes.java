package org.ferrowal.bench;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.EnumMap;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;

/**
 * Which of this process's threads had the processors, and which of them waited for one, by what they do: the profile of an
 * application. From {@code /proc/self/task/*}{@code /schedstat}; a thread that has ended meanwhile is not in it.
 */
final class ThreadTimes {
    /** What threads do. Known by the beginning of their names, of which Linux keeps fifteen characters and the JVM at least seven. */
    enum Kind {
        RECEIVER("the receiver", "bench-r"),
        /** Spark's pool in which the receiver's blocks are written to the log and to the block manager. */
        STORING("storing and logging its blocks", "WriteAh"),
        TASKS("tasks", "Executo"),
        LOG("the log's own threads", "ferrowa"),
        COLLECTION("garbage collection", "GC Thre", "G1 ", "VM Thre", "VM Peri"),
        COMPILER("compiler", "C1 Comp", "C2 Comp"),
        REST("all other threads");

        final String title;
        private final String[] names;

        Kind(String title, String... names) {
            this.title = title;
            this.names = names;
        }

        static Kind of(String name) {
            for (Kind kind : values()) {
                for (String start : kind.names) {
                    if (name.startsWith(start)) {
                        return kind;
                    }
                }
            }
            return REST;
        }
    }

    /** Microseconds on a processor, and waiting for one. */
    record Times(double ran, double waited) {
        private Times plus(double moreRan, double moreWaited) {
            return new Times(ran + moreRan, waited + moreWaited);
        }
    }

    private record Seen(Kind kind, Times times) {
    }

    /** By thread: a thread that ends takes its time with it. */
    private final Map<String, Seen> threads = new TreeMap<>();

    /** As they are now. */
    static ThreadTimes now() {
        ThreadTimes times = new ThreadTimes();
        try (DirectoryStream<Path> tasks = Files.newDirectoryStream(Path.of("/proc/self/task"))) {
            for (Path task : tasks) {
                try {
                    String id = task.getFileName().toString();
                    String[] nanos = Files.readString(task.resolve("schedstat")).trim().split(" ");
                    Kind kind = Kind.of(Files.readString(task.resolve("comm")).trim());
                    times.threads.put(id,
                        new Seen(kind, new Times(Long.parseLong(nanos[0]) / 1e3, Long.parseLong(nanos[1]) / 1e3)));
                } catch (IOException e) {
                    // Its thread has just ended, before its files were opened or between that and reading them.
                }
            }
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        if (times.threads.isEmpty()) {
            throw new BenchException("this kernel does not count its threads' times (/proc/self/task/*/schedstat)");
        }
        return times;
    }

    /** What passed since then, as {@code KIND RAN WAITED …}: what {@link #parse} reads. */
    String since(ThreadTimes before) {
        Map<Kind, Times> all = new EnumMap<>(Kind.class);
        threads.forEach((id, seen) -> {
            Seen then = before.threads.get(id);
            Times passed = then == null ? seen.times : seen.times.plus(-then.times.ran, -then.times.waited);
            all.merge(seen.kind, passed, (a, b) -> a.plus(b.ran, b.waited));
        });
        StringBuilder text = new StringBuilder();
        all.forEach((kind, times) -> text.append(String.format(Locale.ROOT, " %s %.0f %.0f", kind, times.ran, times.waited)));
        return text.toString().trim();
    }

    /** Reads what {@link #since} gave. */
    static Map<Kind, Times> parse(String text) {
        Map<Kind, Times> all = new EnumMap<>(Kind.class);
        String[] words = text.split(" ");
        for (int i = 0; i + 2 < words.length; i += 3) {
            all.put(Kind.valueOf(words[i]), new Times(Double.parseDouble(words[i + 1]), Double.parseDouble(words[i + 2])));
        }
        return all;
    }
}
