package org.ferrowal.demo;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.SplittableRandom;
import java.util.concurrent.TimeUnit;

/**
 * One run of the first act: a producer sends at a steady rate, the application consumes, and is killed with -9 whenever
 * enough messages are acknowledged but not processed; it is started again at once. The run is over when the broker has
 * nothing left and every block that was stored has had its batch.
 */
final class CrashRun {
    /** What the runs have in common. {@code kills} are made evenly over the messages. */
    record Plan(int messages, int rate, int batchMillis, int cores, int kills, long seed) {
    }

    /** A kill: when, with how many messages acknowledged but not processed, how long until the next one was processed. */
    record Kill(long time, int inFlight, long recoveredAfter) {
        Kill recovered(long after) {
            return new Kill(time, inFlight, after);
        }
    }

    /** What came of it. */
    record Result(Mode mode, Ledger ledger, List<Kill> kills) {
        /** Acknowledged by the broker, never in the sink. Meaningful because the run waited until all was settled. */
        int lost() {
            return ledger.missing();
        }
    }

    private static final int START_SECONDS = 90;
    private static final int SETTLE_SECONDS = 120;
    private static final int POLL_MILLIS = 50;

    private final Mode mode;
    private final Plan plan;
    private final Path work;
    private final Path logs;
    private final String brokerUrl;
    private final Screen screen;
    private final Ledger ledger;
    private final Path sink;
    private final List<Kill> kills = new ArrayList<>();
    private int starts;
    private long startTime;

    CrashRun(Mode mode, Plan plan, Path work, Path logs, Path events, String brokerUrl, Screen screen) {
        this.mode = mode;
        this.plan = plan;
        this.work = work.resolve(mode.id);
        this.logs = logs;
        this.brokerUrl = brokerUrl;
        this.screen = screen;
        this.sink = this.work.resolve("sink");
        this.ledger = new Ledger(events, mode.id, sink, plan.messages);
    }

    /** Runs it. */
    Result run() {
        try {
            Files.createDirectories(sink);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        screen.heading("Run: " + mode.title);
        screen.say(mode.explanation());
        Producer producer = new Producer(brokerUrl, mode.id, plan.messages, plan.rate);
        JavaProcess app = startApp();
        try {
            awaitReceiver(app);
            startTime = System.currentTimeMillis();
            producer.start();
            SplittableRandom random = new SplittableRandom(plan.seed);
            for (int kill = 0; kill < plan.kills; kill++) {
                awaitKillMoment(app, producer, kill, random);
                app.kill();
                ledger.refresh();
                int inFlight = ledger.missing() - lostSoFar();
                kills.add(new Kill(System.currentTimeMillis(), inFlight, Ledger.NEVER));
                screen.say("kill -9, with " + inFlight + " messages acknowledged, not yet processed; starting again");
                app = startApp();
            }
            awaitSettled(app, producer);
        } finally {
            app.kill();
        }
        ledger.refresh();
        int lost = ledger.missing();
        screen.say(String.format(Locale.ROOT, "done after %.0f s: %s", seconds(),
            lost == 0 ? "every acknowledged message was processed" : lost + " acknowledged messages are lost"));
        return new Result(mode, ledger, kills);
    }

    private JavaProcess startApp() {
        List<String> options = List.of("-Xmx1g", "-Dspark.master=local[" + plan.cores + "]",
            "-Dspark.app.name=demo-" + mode.id, "-Dspark.ui.enabled=false", "-Dspark.driver.host=127.0.0.1",
            "-Dspark.driver.bindAddress=127.0.0.1", "-Dspark.local.dir=" + work.resolve("spark-local"));
        List<String> arguments = List.of(work.resolve("checkpoint").toUri().toString(), sink.toString(), brokerUrl, mode.id,
            Integer.toString(plan.batchMillis));
        return JavaProcess.start(Programs.spark("app-" + mode.id + "-" + ++starts, List.of(), mode, work.resolve("log"),
            StreamingApp.class, options, arguments), logs);
    }

    private void awaitReceiver(JavaProcess app) {
        long deadline = deadline(START_SECONDS);
        screen.progress("starting the application");
        for (ledger.refresh(); ledger.consumers() == 0; ledger.refresh()) {
            app.checkAlive(POLL_MILLIS);
            if (System.nanoTime() > deadline) {
                throw new DemoException("No receiver came to the broker within " + START_SECONDS + " s. See the logs in " + logs);
            }
        }
    }

    /**
     * Waits until its share of the messages is acknowledged, the application works (again), and between half a batch and a
     * whole one lies between broker and sink.
     */
    private void awaitKillMoment(JavaProcess app, Producer producer, int kill, SplittableRandom random) {
        int share = plan.messages * (2 * kill + 1) / (2 * plan.kills + 1);
        int perBatch = (int) ((long) plan.rate * plan.batchMillis / 1000);
        int enough = random.nextInt(perBatch / 2, perBatch);
        long deadline = deadline(START_SECONDS + plan.messages / plan.rate);
        while (ledger.acknowledged() < share || !recovered() || ledger.missing() - lostSoFar() < enough) {
            step(app, producer);
            if (System.nanoTime() > deadline) {
                throw new DemoException("The moment for a kill did not come: " + ledger.acknowledged()
                    + " messages acknowledged, " + ledger.processed() + " processed. See the logs in " + logs);
            }
        }
    }

    private void awaitSettled(JavaProcess app, Producer producer) {
        long deadline = deadline(SETTLE_SECONDS + plan.messages / plan.rate);
        while (!(recovered() && ledger.settled(2L * plan.batchMillis))) {
            step(app, producer);
            if (System.nanoTime() > deadline) {
                throw new DemoException("The run did not come to its end: of " + plan.messages + " messages "
                    + ledger.acknowledged() + " acknowledged, " + ledger.processed() + " processed. See the logs in " + logs);
            }
        }
    }

    private void step(JavaProcess app, Producer producer) {
        app.checkAlive(POLL_MILLIS);
        producer.check();
        ledger.refresh();
        screen.progress(String.format(Locale.ROOT, "%3.0f s  sent %d  acknowledged %d  processed %d  between %d%s", seconds(),
            ledger.sent(), ledger.acknowledged(), ledger.processed(), ledger.missing(),
            kills.isEmpty() || recovered() ? "" : "  recovering"));
    }

    /** Whether a message has been processed since the last kill; notes when. */
    private boolean recovered() {
        if (kills.isEmpty()) {
            return ledger.processed() > 0;
        }
        Kill last = kills.get(kills.size() - 1);
        if (last.recoveredAfter == Ledger.NEVER) {
            long first = ledger.firstProcessedAfter(last.time);
            if (first == Ledger.NEVER) {
                return false;
            }
            kills.set(kills.size() - 1, last.recovered(first - last.time));
        }
        return true;
    }

    /** What an earlier kill left in flight, and so may be lost: not to be taken for messages on their way. */
    private int lostSoFar() {
        return kills.isEmpty() ? 0 : ledger.missingBefore(kills.get(kills.size() - 1).time);
    }

    private double seconds() {
        return startTime == 0 ? 0 : (System.currentTimeMillis() - startTime) / 1000.0;
    }

    private static long deadline(int seconds) {
        return System.nanoTime() + TimeUnit.SECONDS.toNanos(seconds);
    }
}
