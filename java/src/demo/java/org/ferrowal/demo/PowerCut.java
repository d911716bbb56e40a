package org.ferrowal.demo;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/**
 * The third act: records the system calls of a program that writes to a log, cuts the power at several moments of the
 * recording (a {@link DiskModel} keeps what had been synced), and reads what is left.
 */
final class PowerCut {
    private static final int THREADS = 4;
    private static final int CUTS = 5;
    private static final int SECONDS = 120;

    /** What one log got back: acknowledged and recovered records per cut; the calls that it made in all. */
    record Result(List<Cut> cuts, int writeCalls, int syncCalls) {
    }

    /** One cut. {@code trouble} is what the log threw, or empty. */
    record Cut(int acknowledged, int recovered, int altered, String trouble) {
    }

    private final Path work;
    private final Path logs;
    private final int records;

    PowerCut(Path work, Path logs, int records) {
        this.work = work;
        this.logs = logs;
        this.records = records;
    }

    /** Why the calls of a program cannot be recorded here, or nothing if they can. */
    static String obstacle() throws IOException, InterruptedException {
        try {
            Process probe = new ProcessBuilder("strace", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "true")
                .redirectErrorStream(true).start();
            String said = new String(probe.getInputStream().readAllBytes()).strip();
            return probe.waitFor() == 0 ? "" : "strace is installed, but may not trace here: " + said
                + " (in a container: docker run --cap-add=SYS_PTRACE)";
        } catch (IOException e) {
            return "strace (5.3 or later) is not installed: apt-get install strace";
        }
    }

    /** Runs it for one log. */
    Result run(Mode mode) throws IOException {
        Path dir = Files.createDirectories(work.resolve("power-cut-" + mode.id)).toRealPath();
        Path root = Files.createDirectory(dir.resolve("disk"));
        Path acknowledgements = dir.resolve("acknowledgements");
        Path recording = dir.resolve("strace");
        // Small segments, since every byte that is written goes through the recording.
        List<String> options = mode == Mode.FERROWAL ? List.of("-Dspark.ferrowal.segment.size=4m") : List.of();
        Path log = root.resolve("log");
        JavaProcess.start(Programs.spark("power-cut-write-" + mode.id, Trace.recorder(recording), mode, log, LogWriter.class, options,
            List.of(log.toString(), acknowledgements.toString(), Integer.toString(records), Integer.toString(THREADS))),
            logs).awaitSuccess(SECONDS);

        DiskModel disk = new DiskModel(root);
        List<String> arguments = new ArrayList<>(List.of(acknowledgements.toString(), Boolean.toString(mode == Mode.FERROWAL)));
        Trace trace = new Trace(disk, root, acknowledgements, count -> {
            if (count % (records / CUTS) == 0) {
                Path image = dir.resolve("after-" + count);
                disk.writeDurable(image);
                arguments.add(Integer.toString(count));
                arguments.add(image.resolve("log").toString());
            }
        });
        trace.replay(recording);
        disk.compareWithReality(trace.inDoubt());

        List<String> lines = JavaProcess.start(Programs.spark("power-cut-read-" + mode.id, List.of(), mode, log, LogReader.class,
            options, arguments), logs).awaitSuccess(SECONDS);
        List<Cut> cuts = new ArrayList<>();
        for (String line : lines) {
            String[] words = line.split(" ", 4);
            cuts.add(new Cut(Integer.parseInt(words[0]), Integer.parseInt(words[1]), Integer.parseInt(words[2]), words[3]));
        }
        return new Result(cuts, trace.writeCalls(), trace.syncCalls());
    }
}
