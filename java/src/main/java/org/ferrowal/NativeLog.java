package org.ferrowal;

import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.ReentrantLock;

/**
 * Carries the native side's log lines to SLF4J, or to {@link System.Logger} where there is no SLF4J.
 *
 * <p>A daemon thread waits for lines; calls that are likely to have logged drain the queue themselves, so that a program
 * which ends at once still shows them. The level is decided here and checked on the native side, so a line that nobody
 * wants is never formatted.
 */
final class NativeLog {
    /** Longest wait of the thread, and so the time until a change of the logger's level is noticed. */
    private static final long WAIT_MILLIS = 1000;

    /** How long a close waits for lines that somebody else is saying. */
    private static final long END_MILLIS = 500;

    private static final Sink SINK = sink();
    /** Lines leave in the order in which they came. */
    private static final ReentrantLock ORDER = new ReentrantLock();

    private NativeLog() {
    }

    /** Where lines go. Levels are 1 ERROR, 2 WARN, 3 INFO, 4 DEBUG, 5 TRACE. */
    interface Sink {
        /** The finest level that is wanted, 0 for none. */
        int level();

        void log(int level, String text);
    }

    static void start() {
        Native.init(level(0));
        Thread thread = new Thread(NativeLog::run, "ferrowal-log");
        thread.setDaemon(true);
        // The thread lives as long as the JVM: it must not keep an application's class loader besides our own.
        thread.setContextClassLoader(null);
        thread.start();
    }

    private static void run() {
        int level = level(0);
        while (true) {
            if (Native.awaitLog(WAIT_MILLIS)) {
                // Waits for its turn, unlike the others: with lines left, the wait above would not wait.
                ORDER.lock();
                try {
                    takeAll();
                } finally {
                    ORDER.unlock();
                }
            }
            int wanted = level(level);
            if (wanted != level) {
                Native.setLogLevel(wanted);
                level = wanted;
            }
        }
    }

    /**
     * Hands on every line that waits, unless somebody is at it: a logging backend that is stuck keeps no caller of the log
     * waiting.
     */
    static void drain() {
        // A backend that itself uses a log comes here while it is at it.
        if (ORDER.isHeldByCurrentThread() || !ORDER.tryLock()) {
            return;
        }
        try {
            takeAll();
        } finally {
            ORDER.unlock();
        }
    }

    /**
     * The same for the last call of a program, which may end at once, and with it the thread that is at it: waits a little
     * for that thread. A backend that is stuck is not waited for longer.
     */
    static void drainAtEnd() {
        if (ORDER.isHeldByCurrentThread()) {
            return;
        }
        boolean interrupted = false;
        long until = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(END_MILLIS);
        while (true) {
            try {
                if (!ORDER.tryLock(until - System.nanoTime(), TimeUnit.NANOSECONDS)) {
                    break;
                }
                try {
                    takeAll();
                } finally {
                    ORDER.unlock();
                }
                break;
            } catch (InterruptedException e) {
                // A log does not heed interrupts; whoever does finds it again.
                interrupted = true;
            }
        }
        if (interrupted) {
            Thread.currentThread().interrupt();
        }
    }

    private static void takeAll() {
        for (String[] line = Native.takeLog(); line != null; line = Native.takeLog()) {
            say(Integer.parseInt(line[0]), line[1]);
        }
    }

    /** The finest level that is wanted; {@code otherwise} where the logging backend throws. */
    private static int level(int otherwise) {
        try {
            return SINK.level();
        } catch (Throwable e) {
            return otherwise;
        }
    }

    /** Says a line of the Java side. */
    static void warn(String text) {
        say(2, text);
    }

    /** A logging backend that throws costs the line, and not the log's answer nor the thread. */
    private static void say(int level, String text) {
        try {
            SINK.log(level, text);
        } catch (Throwable e) {
            System.err.println("ferrowal could not log (" + e + "): " + text);
        }
    }

    private static Sink sink() {
        try {
            Class.forName("org.slf4j.LoggerFactory", true, NativeLog.class.getClassLoader());
            return new Slf4jSink();
        } catch (ClassNotFoundException | LinkageError | RuntimeException e) {
            return new SystemSink();
        }
    }

    /** The JDK's own logging. */
    private static final class SystemSink implements Sink {
        private static final System.Logger.Level[] LEVELS = {
            System.Logger.Level.OFF, System.Logger.Level.ERROR, System.Logger.Level.WARNING, System.Logger.Level.INFO,
            System.Logger.Level.DEBUG, System.Logger.Level.TRACE
        };
        private final System.Logger logger = System.getLogger("org.ferrowal");

        @Override
        public int level() {
            for (int level = LEVELS.length - 1; level > 0; level--) {
                if (logger.isLoggable(LEVELS[level])) {
                    return level;
                }
            }
            return 0;
        }

        @Override
        public void log(int level, String text) {
            logger.log(LEVELS[level], text);
        }
    }
}
