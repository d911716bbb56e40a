package org.ferrowal.bench;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;

/**
 * Shows which logs sync: counts the system calls that make bytes durable while a child process ({@link SyncProbe}) writes
 * to a log, by strace.
 *
 * @param syncs fsync, fdatasync, syncfs, sync_file_range and msync on the log's files and directories
 * @param durableOpens files of the log opened with O_SYNC or O_DSYNC, whose every write is a sync
 */
record SyncCount(int syncs, int durableOpens) {
    /** Records that the child writes, one at a time. */
    static final int RECORDS = 200;

    private static final int SECONDS = 120;

    /** Why calls cannot be counted here, or nothing if they can. */
    static String obstacle() throws IOException, InterruptedException {
        try {
            Process probe = new ProcessBuilder("strace", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "true")
                .redirectErrorStream(true).start();
            String said = new String(probe.getInputStream().readAllBytes()).strip();
            return probe.waitFor() == 0 ? "" : "strace is installed, but may not trace here: " + said
                + " (in a container: docker run --cap-add=SYS_PTRACE)";
        } catch (IOException e) {
            return "strace (5.3 or later) is not installed";
        }
    }

    /**
     * Runs the child.
     *
     * @param work an existing directory
     * @param size bytes in a record
     * @throws BenchException if the child fails
     */
    static SyncCount of(Contender contender, Path work, int size) throws IOException, InterruptedException {
        Path home = Files.createDirectory(work.resolve("syncs-" + contender.id()));
        Path log = Files.createDirectory(home.resolve("log")).toRealPath();
        Path recording = home.resolve("strace");
        Path output = home.resolve("output");
        List<String> command = new ArrayList<>(List.of("strace", "-f", "--seccomp-bpf", "-qq", "-y", "-e", "signal=none",
            "-e", "trace=?open,openat,fsync,fdatasync,syncfs,sync_file_range,msync,?sync", "-o", recording.toString(),
            Path.of(System.getProperty("java.home"), "bin", "java").toString(), "-cp",
            System.getProperty("java.class.path"), SyncProbe.class.getName(), contender.id(), log.toString(),
            Integer.toString(RECORDS), Integer.toString(size)));
        Process child = new ProcessBuilder(command).redirectErrorStream(true).redirectOutput(output.toFile()).start();
        if (!child.waitFor(SECONDS, TimeUnit.SECONDS)) {
            child.descendants().forEach(ProcessHandle::destroyForcibly);
            child.destroyForcibly().waitFor();
            throw new BenchException(contender.title() + " did not write " + RECORDS + " records within " + SECONDS
                + " s under strace");
        }
        String said = Files.readString(output);
        if (child.exitValue() != 0 || !said.contains("written")) {
            throw new BenchException(contender.title() + " failed under strace: " + said.strip());
        }
        return count(recording, log);
    }

    private static SyncCount count(Path recording, Path log) throws IOException {
        int syncs = 0;
        int durableOpens = 0;
        // A call that another thread's interrupts is recorded in two lines; its first has the name and the file.
        try (Stream<String> lines = Files.lines(recording, StandardCharsets.ISO_8859_1)) {
            for (String line : (Iterable<String>) lines::iterator) {
                String call = line.substring(line.indexOf(' ')).stripLeading();
                if (call.startsWith("<... ") || !call.contains("(")) {
                    continue;
                }
                String name = call.substring(0, call.indexOf('('));
                if (name.equals("sync") || name.equals("msync")) {
                    syncs++; // No file is named.
                } else if (call.contains(log.toString())) {
                    if (!name.startsWith("open")) {
                        syncs++;
                    } else if (call.contains("O_SYNC") || call.contains("O_DSYNC")) {
                        durableOpens++;
                    }
                }
            }
        }
        return new SyncCount(syncs, durableOpens);
    }
}
