package org.ferrowal.bench;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;

import org.ferrowal.bench.rows.Contender;

/**
 * Shows which logs sync: counts the system calls that make bytes durable while a child process ({@link SyncProbe}) writes
 * to a log, by strace.
 *
 * @param syncs fsync, fdatasync, syncfs, sync_file_range and msync on the log's files and directories
 * @param durableWrites writes that are durable when they return: to files of the log opened with O_SYNC or O_DSYNC, or
 *     with RWF_SYNC or RWF_DSYNC
 * @param submissions io_submit and io_uring_enter: what they write is not seen, and they prove nothing alone
 * @param direct files of the log opened with O_DIRECT
 */
record SyncCount(int syncs, int durableWrites, int submissions, int direct) {
    /** Records that the child writes, one at a time. */
    static final int RECORDS = 200;

    private static final int SECONDS = 120;
    private static final Pattern CALL = Pattern.compile("^\\d+\\s+(\\w+)\\((.*)$");
    private static final Pattern PATH = Pattern.compile("<(/[^>]*)>|\"(/[^\"]*)\"");

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
        List<String> command = new ArrayList<>(List.of("strace", "-f", "--seccomp-bpf", "-qq", "-y", "-s", "0", "-e",
            "signal=none", "-e", "trace=?open,openat,fsync,fdatasync,syncfs,sync_file_range,msync,?sync,write,writev,"
            + "pwrite64,pwritev,pwritev2,?io_submit,?io_uring_enter", "-o", recording.toString()));
        command.addAll(Child.java());
        command.addAll(List.of(SyncProbe.class.getName(), contender.id(), log.toString(), Integer.toString(RECORDS),
            Integer.toString(size)));
        Process child = new ProcessBuilder(command).redirectErrorStream(true).redirectOutput(output.toFile()).start();
        if (!child.waitFor(SECONDS, TimeUnit.SECONDS)) {
            child.descendants().forEach(ProcessHandle::destroyForcibly);
            child.destroyForcibly().waitFor();
            throw new BenchException(contender.title() + " did not write " + RECORDS + " records within " + SECONDS
                + " s under strace");
        }
        String said = Files.readString(output);
        if (child.exitValue() != 0 || !said.contains("written")) {
            throw new BenchException(failure(said));
        }
        SyncCount count = count(recording, log);
        WorkFiles.delete(home);
        return count;
    }

    /** What a Java program said when it ended, without the stack. */
    private static String failure(String said) {
        String first = said.lines().filter(line -> line.startsWith("Exception in thread")).findFirst().orElse(said.strip());
        return said.lines().filter(line -> line.startsWith("Caused by: ")).reduce(first, (before, cause) -> cause);
    }

    private static SyncCount count(Path recording, Path log) throws IOException {
        int syncs = 0;
        int durableWrites = 0;
        int submissions = 0;
        Set<String> durable = new HashSet<>();
        Set<String> direct = new HashSet<>();
        // A call that another thread's interrupts is recorded in two lines; its first has the name and the file.
        try (Stream<String> lines = Files.lines(recording, StandardCharsets.ISO_8859_1)) {
            for (String line : (Iterable<String>) lines::iterator) {
                Matcher call = CALL.matcher(line);
                if (!call.find()) {
                    continue;
                }
                String arguments = call.group(2);
                Matcher path = PATH.matcher(arguments);
                String file = path.find() ? path.group(1) != null ? path.group(1) : path.group(2) : "";
                // The argument that opens a file comes after the directory it is relative to.
                if (call.group(1).startsWith("open") && arguments.contains("\"")) {
                    String quoted = arguments.substring(arguments.indexOf('"') + 1);
                    file = quoted.substring(0, quoted.indexOf('"'));
                }
                boolean ours = file.startsWith(log.toString());
                switch (call.group(1)) {
                    case "sync", "msync" -> syncs++; // No file is named.
                    case "io_submit", "io_uring_enter" -> submissions++;
                    case "open", "openat" -> {
                        if (ours && (arguments.contains("O_SYNC") || arguments.contains("O_DSYNC"))) {
                            durable.add(file);
                        }
                        if (ours && arguments.contains("O_DIRECT") && !arguments.contains("O_DIRECTORY")) {
                            direct.add(file);
                        }
                    }
                    case "write", "writev", "pwrite64", "pwritev", "pwritev2" -> {
                        if (ours && (durable.contains(file) || arguments.contains("SYNC"))) {
                            durableWrites++;
                        }
                    }
                    default -> syncs += ours ? 1 : 0;
                }
            }
        }
        return new SyncCount(syncs, durableWrites, submissions, direct.size());
    }

    /** In words, with a warning where a durable row syncs less than once a record. */
    String describe(boolean claimed) {
        return syncs + " syncs"
            + (durableWrites > 0 ? ", " + durableWrites + " writes with O_DSYNC or the like" : "")
            + (submissions > 0 ? ", " + submissions + " submissions to the kernel's asynchronous I/O" : "")
            + (direct > 0 ? ", " + direct + " files opened with O_DIRECT" : "")
            + (claimed && syncs + durableWrites < RECORDS && (submissions < RECORDS || direct == 0)
                ? ". THAT IS FEWER THAN RECORDS: this row is not what it says"
                : claimed && syncs + durableWrites < RECORDS
                ? ". Durable only if the device has no volatile write cache: there are direct writes, and no sync of each" : "");
    }
}
