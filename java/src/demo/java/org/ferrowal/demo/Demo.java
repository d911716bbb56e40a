package org.ferrowal.demo;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.Callable;
import java.util.function.Function;
import java.util.stream.Collectors;
import java.util.stream.Stream;

import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;

/**
 * The demo's harness: starts the broker, drives the three acts, prints what was counted. Exit code 0 if ferrowal lost and
 * altered nothing, 1 if it did, 2 for bad flags, 3 if the demo could not be carried through.
 */
@Command(name = "demo", sortOptions = false, usageHelpWidth = 110,
    description = "Kills a Spark Streaming application with -9 while data flows, and counts what is lost: without a "
        + "write-ahead log, with Spark's own, with ferrowal.")
public final class Demo implements Callable<Integer> {
    @Option(names = "--messages", defaultValue = "4000",
        description = "Messages a run (default ${DEFAULT-VALUE}; 26 KB each on average).")
    private int messages;
    @Option(names = "--rate", defaultValue = "200", description = "Messages a second (default ${DEFAULT-VALUE}).")
    private int rate;
    @Option(names = "--kills", defaultValue = "2", description = "Kills a run (default ${DEFAULT-VALUE}).")
    private int kills;
    @Option(names = "--batch", defaultValue = "1000",
        description = "Spark's batch interval in milliseconds (default ${DEFAULT-VALUE}).")
    private int batchMillis;
    @Option(names = "--cores", defaultValue = "3",
        description = "Spark's local[N]; the receiver takes one (default ${DEFAULT-VALUE}).")
    private int cores;
    @Option(names = "--modes", split = ",", defaultValue = "none,spark,ferrowal", converter = ModeConverter.class,
        description = "Which runs (default ${DEFAULT-VALUE}).")
    private List<Mode> modes;
    @Option(names = "--acts", split = ",", defaultValue = "1,2,3",
        description = "1 kill -9, 2 a flipped bit, 3 a simulated power cut (default ${DEFAULT-VALUE}).")
    private List<Integer> acts;
    @Option(names = "--seed", description = "Decides the moments of the kills (default: the clock's; printed).")
    private Long seed;
    @Option(names = {"-h", "--help"}, usageHelp = true, description = "Shows this.")
    private boolean help;
    @Option(names = "--keep", description = "Keep the data of broker, checkpoints and logs, as after a failure.")
    private boolean keep;

    private static final int POWER_CUT_RECORDS = 200;
    private static final long NEEDED_BYTES = 1L << 30;

    private final Screen screen = new Screen();
    private final List<String> failures = new ArrayList<>();
    private String leftOut = "";
    private Path dir;
    private Path work;
    private Path logs;

    /** See {@code --help}. */
    public static void main(String[] args) {
        System.exit(new CommandLine(new Demo()).setExecutionExceptionHandler((e, command, parsed) -> {
            System.out.println();
            System.out.print("The demo could not be carried through. ");
            if (e instanceof DemoException) {
                System.out.println(e.getMessage());
            } else {
                e.printStackTrace(System.out);
            }
            return 3;
        }).execute(args));
    }

    @Override
    public Integer call() throws Exception {
        if (kills < 0 || cores < 2 || messages < 100 || (long) rate * batchMillis < 10_000) {
            throw new DemoException("Too little to show anything: it takes 100 messages, 10 messages a batch, 2 cores.");
        }
        long start = System.nanoTime();
        dir = Path.of(Programs.setting("demo.dir"));
        work = dir.resolve("work");
        logs = dir.resolve("logs");
        delete(work);
        delete(logs);
        Files.createDirectories(work);
        long space = Files.getFileStore(work).getUsableSpace();
        if (space < NEEDED_BYTES) {
            throw new DemoException("The demo needs " + (NEEDED_BYTES >> 20) + " MiB of disk in " + dir + ", and "
                + (space >> 20) + " MiB are free.");
        }
        if (acts.contains(1)) {
            killNine();
        }
        if (Programs.store().length > 0) {
            // The others flip a bit of a file, and replay what was written to a disk.
            acts = List.of(1);
        }
        if (acts.contains(2) && !logModes().isEmpty()) {
            flipBit();
        }
        if (acts.contains(3) && !logModes().isEmpty()) {
            cutPower();
        }
        if (!keep && failures.isEmpty()) {
            delete(work);
        }
        screen.heading(String.format(Locale.ROOT, "After %.0f s: ", (System.nanoTime() - start) / 1e9)
            + (failures.isEmpty() ? verdict() + leftOut + "." : "FAILED"));
        failures.forEach(screen::say);
        return failures.isEmpty() ? 0 : 1;
    }

    private String verdict() {
        return modes.contains(Mode.FERROWAL) ? "ferrowal lost nothing and altered nothing"
            : "done (ferrowal did not take part)";
    }

    private void killNine() throws IOException {
        long chosen = seed != null ? seed : System.currentTimeMillis();
        screen.heading("Act one: kill -9");
        screen.say("A broker (ActiveMQ Artemis, a process of its own) holds numbered, checksummed messages in a durable queue. "
            + "A Spark Streaming application stores them, and acknowledges them to the broker after store() returned. It is "
            + "killed with -9 " + (kills == 2 ? "twice" : kills + " times") + " a run while data flows, and started again. "
            + "Lost is a message that the broker was told is safe, and that the application never processed.");
        screen.say(messages + " messages a run, " + rate + " a second, 100 B to 200 KB each; seed " + chosen + ". What the "
            + "processes log: " + logs);
        int port = freePort();
        String brokerUrl = "tcp://127.0.0.1:" + port + "?blockOnAcknowledge=true&minLargeMessageSize=1048576";
        Path brokerDir = Files.createDirectories(work.resolve("broker"));
        Path events = brokerDir.resolve("events");
        List<String> arguments = new ArrayList<>(List.of(Integer.toString(port), brokerDir.toString()));
        modes.forEach(mode -> arguments.add(mode.id));
        JavaProcess broker = JavaProcess.start(Programs.broker(arguments), logs);
        List<CrashRun.Result> results = new ArrayList<>();
        try {
            broker.awaitReady(60);
            CrashRun.Plan plan = new CrashRun.Plan(messages, rate, batchMillis, cores, kills, chosen);
            for (Mode mode : modes) {
                results.add(new CrashRun(mode, plan, work, logs, events, brokerUrl, screen).run());
                broker.checkAlive(0);
            }
        } finally {
            broker.kill();
        }
        screen.table(table(results));
        screen.say("Processed twice is what at-least-once means: a batch that was cut short is run again. Time to recover: from "
            + "the kill to the next message processed, with the start of a JVM and of Spark.");
        for (CrashRun.Result result : results) {
            if (result.mode() == Mode.FERROWAL && (result.lost() > 0 || result.ledger().wrongBytes() > 0)) {
                failures.add("ferrowal lost " + result.lost() + " messages and altered " + result.ledger().wrongBytes()
                    + ". Seed " + chosen);
            }
        }
        Path svg = dir.resolve("timeline.svg");
        try {
            Timeline.draw(results, svg);
            screen.say("What happened, over time: " + svg);
        } catch (LinkageError | InternalError | RuntimeException e) {
            screen.say("The timeline could not be drawn (" + e + "). Java draws with fontconfig and a font: apt-get install "
                + "fontconfig fonts-dejavu-core");
        }
    }

    private void flipBit() throws IOException {
        screen.heading("Act two: one flipped bit");
        screen.say("Five records in each log. On disk, one bit of the third is flipped (1,000 EUR become 9,000). Then "
            + "it is read back.");
        for (Mode mode : logModes()) {
            Path log = Files.createDirectories(work.resolve("bit-flip-" + mode.id)).resolve("log");
            List<String> lines = JavaProcess.start(Programs.spark("bit-flip-" + mode.id, List.of(), mode, log, BitFlip.class,
                List.of(), List.of(log.toString())), logs).awaitSuccess(60);
            screen.heading(mode.title);
            int thrown = 0;
            boolean altered = false;
            for (String line : lines) {
                String[] words = line.split(" ", 3);
                thrown += words[1].equals("threw") ? 1 : 0;
                altered |= words[1].equals("altered");
                switch (words[1]) {
                    case "altered" -> screen.say(words[0] + " returned, as if nothing had happened: \"" + words[2] + "\"");
                    case "threw" -> screen.say(words[0] + " threw " + words[2]);
                    default -> {
                    }
                }
            }
            if (mode == Mode.FERROWAL && (altered || thrown < BitFlip.WAYS)) {
                failures.add("ferrowal " + (altered ? "returned altered bytes" : "passed over a flipped bit") + ": see " + logs);
            }
        }
    }

    private void cutPower() throws IOException, InterruptedException {
        screen.heading("Act three: a simulated power cut");
        String obstacle = PowerCut.obstacle();
        if (!obstacle.isEmpty()) {
            leftOut = "; act three was left out";
            screen.say("Left out: this act records system calls, and " + obstacle);
            return;
        }
        screen.say("Each log's system calls are recorded (strace) while four threads write to it. Then the power is cut at five "
            + "moments of the recording: what was written but not synced is dropped, names of files included. That is the worst "
            + "that a kernel may do; real ones write back by themselves after half a minute or so. Recovered: acknowledged "
            + "before the cut, and read back intact.");
        List<Mode> logModes = logModes();
        List<PowerCut.Result> results = new ArrayList<>();
        for (Mode mode : logModes) {
            PowerCut.Result result = new PowerCut(work, logs, POWER_CUT_RECORDS).run(mode);
            results.add(result);
            for (PowerCut.Cut cut : result.cuts()) {
                if (mode == Mode.FERROWAL && (cut.recovered() < cut.acknowledged() || cut.altered() > 0)) {
                    failures.add("ferrowal, power cut after " + cut.acknowledged() + " records: " + cut.recovered() + " recovered, "
                        + cut.altered() + " altered. " + cut.trouble());
                }
            }
        }
        List<List<String>> rows = new ArrayList<>();
        rows.add(Stream.concat(Stream.of("acknowledged before the cut"),
            logModes.stream().map(mode -> mode.title + ": recovered")).toList());
        for (int i = 0; i < results.get(0).cuts().size(); i++) {
            int cut = i;
            rows.add(Stream.concat(Stream.of(number(results.get(0).cuts().get(i).acknowledged())),
                results.stream().map(result -> number(result.cuts().get(cut).recovered()))).toList());
        }
        rows.add(Stream.concat(Stream.of("writes and syncs recorded"),
            results.stream().map(result -> number(result.writeCalls()) + " and " + number(result.syncCalls()))).toList());
        screen.table(rows);
    }

    private List<Mode> logModes() {
        return modes.stream().filter(mode -> mode != Mode.NONE).toList();
    }

    private static List<List<String>> table(List<CrashRun.Result> results) {
        List<List<String>> rows = new ArrayList<>();
        row(rows, "", results, result -> result.mode().title);
        row(rows, "messages sent", results, result -> number(result.ledger().sent()));
        row(rows, "acknowledged to the broker", results, result -> number(result.ledger().acknowledged()));
        row(rows, "processed", results, result -> number(result.ledger().processed()));
        row(rows, "LOST: acknowledged, never processed", results, result -> number(result.lost()));
        row(rows, "processed twice", results, result -> number(result.ledger().processedTwice()));
        row(rows, "wrong bytes", results, result -> number(result.ledger().wrongBytes()));
        row(rows, "in flight at the kills", results, result -> kills(result, kill -> number(kill.inFlight())));
        row(rows, "time to recover", results,
            result -> kills(result, kill -> String.format(Locale.ROOT, "%.1f s", kill.recoveredAfter() / 1000.0)));
        return rows;
    }

    private static void row(List<List<String>> rows, String name, List<CrashRun.Result> results,
            Function<CrashRun.Result, String> cell) {
        rows.add(Stream.concat(Stream.of(name), results.stream().map(cell)).toList());
    }

    private static String kills(CrashRun.Result result, Function<CrashRun.Kill, String> cell) {
        return result.kills().stream().map(cell).collect(Collectors.joining(", "));
    }

    private static String number(long value) {
        return String.format(Locale.ROOT, "%,d", value);
    }

    private static int freePort() throws IOException {
        try (ServerSocket socket = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
            return socket.getLocalPort();
        }
    }

    /** Deletes a directory of the demo with all that is in it. */
    private static void delete(Path directory) {
        if (!Files.exists(directory)) {
            return;
        }
        try (Stream<Path> files = Files.walk(directory)) {
            for (Path file : files.sorted(Comparator.reverseOrder()).toList()) {
                Files.delete(file);
            }
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private static final class ModeConverter implements CommandLine.ITypeConverter<Mode> {
        @Override
        public Mode convert(String value) {
            for (Mode mode : Mode.values()) {
                if (mode.id.equals(value)) {
                    return mode;
                }
            }
            throw new CommandLine.TypeConversionException("'" + value + "' is not one of none, spark, ferrowal");
        }
    }
}
