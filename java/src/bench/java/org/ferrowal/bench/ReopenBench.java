package org.ferrowal.bench;

import java.io.BufferedReader;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;

import org.ferrowal.Log;
import org.ferrowal.LogOptions;
import org.ferrowal.Records;
import org.ferrowal.RecoveryReport;

import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/** Opening again after kill -9: how long until the log takes a record, and until it gives one. */
@Command(name = "reopen", sortOptions = false, usageHelpWidth = 110,
    description = "A process writes a log of 10 GB and is killed with -9 while it writes; how long opening it again takes.")
final class ReopenBench implements Callable<Integer> {
    @Option(names = "--bytes", converter = Workspace.Bytes.class, defaultValue = "10g",
        description = "Bytes in the log (default ${DEFAULT-VALUE}).")
    private long bytes;
    @Option(names = "--size", converter = Workspace.Bytes.class, defaultValue = "256k",
        description = "Bytes in a record (default ${DEFAULT-VALUE}).")
    private long size;
    @Option(names = "--rounds", defaultValue = "5", description = "Crashes (default ${DEFAULT-VALUE}).")
    private int rounds;
    @Mixin
    private Workspace space;

    @Override
    public Integer call() throws Exception {
        Path work = space.work();
        space.describe();
        WorkFiles.needSpace(work, bytes + bytes / 4 + (4L << 30));
        System.out.println("Cold: " + Cache.WORDS + ". As Spark does it: a recovered driver asks for the records before it writes, "
            + "or they would be set aside. The driver's log: up to the first record that it gives, and from opening up to its first "
            + "acknowledged write. The receivers': up to the first record.");
        List<Double> append = new ArrayList<>();
        List<Double> recovery = new ArrayList<>();
        List<Double> firstDriver = new ArrayList<>();
        List<Double> first = new ArrayList<>();
        RecoveryReport report = null;
        for (int round = 1; round <= rounds; round++) {
            Path directory = work.resolve("reopen" + round);
            for (LogOptions.Role role : LogOptions.Role.values()) {
                Workspace.progress("reopen, round " + round + " of " + rounds + ": writing " + Report.size(bytes) + " ("
                    + role + ")");
                crash(directory, role);
                Cache.drop(directory);
                long began = System.nanoTime();
                try (Log log = Log.open(LogOptions.in(directory, role))) {
                    try (Records records = log.scan()) {
                        records.next();
                    }
                    (role == LogOptions.Role.DRIVER ? firstDriver : first).add((System.nanoTime() - began) / 1e6);
                    if (role == LogOptions.Role.DRIVER) {
                        log.append(ByteBuffer.wrap(new byte[100]), System.currentTimeMillis());
                        append.add((System.nanoTime() - began) / 1e6);
                        report = log.report().orElseThrow();
                        recovery.add(report.took().toNanos() / 1e6);
                    }
                }
                WorkFiles.delete(directory);
            }
        }
        Workspace.progress("");
        System.out.println();
        System.out.println("### Opening " + Report.size(bytes) + " again after kill -9");
        System.out.println();
        System.out.println("| | ms |");
        System.out.println("|---|---|");
        System.out.println("| the driver's log, to the first record of readAll | " + Sample.Figure.of(firstDriver).show(1, 1) + " |");
        System.out.println("| the driver's log, to the first acknowledged write | " + Sample.Figure.of(append).show(1, 1) + " |");
        System.out.println("| of that, recovery, by its own report | " + Sample.Figure.of(recovery).show(1, 1) + " |");
        System.out.println("| the receivers' log, to the first record of readAll | " + Sample.Figure.of(first).show(1, 1) + " |");
        System.out.println();
        System.out.printf("The last recovery: %d segments, %d of them sealed; %d records of %d bytes; %d torn bytes dropped; %d corrupt "
            + "places.%n", report.segments(), report.sealed(), report.records(), report.bytes(), report.tornBytes(), report.corrupt());
        Verdicts verdicts = new Verdicts();
        verdicts.atMost("reopen after a crash, " + Report.size(bytes) + ", ms", 1000, " ms", Sample.Figure.of(append));
        verdicts.print(System.out);
        return 0;
    }

    private void crash(Path directory, LogOptions.Role role) throws IOException, InterruptedException {
        Files.createDirectories(directory);
        List<String> command = Child.java();
        command.addAll(List.of(LogFiller.class.getName(), directory.toString(), role.name(), Long.toString(size),
            Long.toString(bytes)));
        Process child = new ProcessBuilder(command).redirectError(ProcessBuilder.Redirect.INHERIT).start();
        try (BufferedReader said = child.inputReader(StandardCharsets.UTF_8)) {
            for (String line = said.readLine(); !"full".equals(line); line = said.readLine()) {
                if (line == null) {
                    throw new BenchException("the process that writes the log has ended: what it said is above");
                }
            }
        } finally {
            // SIGKILL, while all of its threads write.
            child.destroyForcibly().waitFor();
        }
    }
}
