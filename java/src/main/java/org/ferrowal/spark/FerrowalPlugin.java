package org.ferrowal.spark;

import com.codahale.metrics.Gauge;
import com.codahale.metrics.MetricRegistry;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;
import org.apache.spark.SparkContext;
import org.apache.spark.api.plugin.DriverPlugin;
import org.apache.spark.api.plugin.ExecutorPlugin;
import org.apache.spark.api.plugin.PluginContext;
import org.apache.spark.api.plugin.SparkPlugin;
import org.ferrowal.LogOptions;
import org.ferrowal.Metrics;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * The logs' numbers in Spark's own metrics system, and so in every sink that is configured there (Prometheus servlet, JMX,
 * Graphite, …): {@code spark.plugins=org.ferrowal.spark.FerrowalPlugin}. The log works as well without it.
 *
 * <p>Each metric of {@link Metrics#all} is a gauge, {@code driver.*} for the driver's log and {@code receivers.*} for the
 * receivers'. An executor has its own {@code receivers.*}. It also tells them to the driver
 * ({@code spark.ferrowal.metrics.interval}), whose {@code receivers.*} are those of all executors together: the driver's
 * sinks alone are enough to watch an application.
 *
 * <p>Whatever goes wrong here costs the metrics, and is said at WARN; it never costs the application.
 */
public final class FerrowalPlugin implements SparkPlugin {
    private static final Logger LOG = LoggerFactory.getLogger("org.ferrowal");

    /** Called by Spark. */
    public FerrowalPlugin() {
    }

    @Override
    public DriverPlugin driverPlugin() {
        return new Driver();
    }

    @Override
    public ExecutorPlugin executorPlugin() {
        return new Executor();
    }

    /** A gauge for each metric, over values that are fetched at most twice a second: a scrape asks for all of them. */
    private static void register(MetricRegistry registry, LogOptions.Role role, Supplier<long[]> values) {
        String prefix = role == LogOptions.Role.DRIVER ? "driver." : "receivers.";
        Supplier<long[]> recent = new Recent(values);
        List<Metrics.Metric> all = Metrics.all();
        for (int i = 0; i < all.size(); i++) {
            int at = i;
            registry.register(prefix + all.get(i).name(), (Gauge<Long>) () -> recent.get()[at]);
        }
    }

    private static void failed(RuntimeException why) {
        LOG.warn("ferrowal's metrics are not available: {}", why.toString(), why);
    }

    /** Values of the last half second, or new ones. */
    private static final class Recent implements Supplier<long[]> {
        private static final long NANOS = TimeUnit.MILLISECONDS.toNanos(500);

        private final Supplier<long[]> values;
        private long[] last;
        private long fetched;

        Recent(Supplier<long[]> values) {
            this.values = values;
        }

        @Override
        public synchronized long[] get() {
            long now = System.nanoTime();
            if (last == null || now - fetched > NANOS) {
                last = values.get();
                fetched = now;
            }
            return last;
        }
    }

    /** In the driver: its own log's metrics, and those of all executors. */
    private static final class Driver implements DriverPlugin {
        private ExecutorTotals executors;

        @Override
        public Map<String, String> init(SparkContext context, PluginContext plugin) {
            try {
                Duration every = SparkOptions.metricsInterval(plugin.conf());
                executors = new ExecutorTotals(Metrics.all(), every);
            } catch (RuntimeException e) {
                failed(e);
            }
            return Map.of();
        }

        @Override
        public void registerMetrics(String appId, PluginContext plugin) {
            if (executors == null) {
                return;
            }
            try {
                MetricRegistry registry = plugin.metricRegistry();
                register(registry, LogOptions.Role.DRIVER, () -> Metrics.values(LogOptions.Role.DRIVER));
                // A local master's receivers are in this process.
                register(registry, LogOptions.Role.RECEIVERS,
                    () -> executors.with(Metrics.values(LogOptions.Role.RECEIVERS), System.nanoTime()));
            } catch (RuntimeException e) {
                failed(e);
            }
        }

        /** What an executor told; classes of the JDK only, so that no class loader can miss them. */
        @Override
        public Object receive(Object message) {
            if (executors != null && message instanceof Object[]) {
                Object[] told = (Object[]) message;
                executors.take((String) told[0], (long[]) told[1], System.nanoTime());
            }
            return null;
        }
    }

    /** In an executor: the metrics of its receivers' log, here and told to the driver. */
    private static final class Executor implements ExecutorPlugin {
        private PluginContext plugin;
        private ScheduledExecutorService clock;

        @Override
        public void init(PluginContext context, Map<String, String> fromDriver) {
            // A local master has one process, and one registry: the driver's plugin is in it.
            if (context.executorID().equals("driver")) {
                return;
            }
            try {
                register(context.metricRegistry(), LogOptions.Role.RECEIVERS,
                    () -> Metrics.values(LogOptions.Role.RECEIVERS));
                long every = SparkOptions.metricsInterval(context.conf()).toMillis();
                plugin = context;
                clock = Executors.newSingleThreadScheduledExecutor(work -> {
                    Thread thread = new Thread(work, "ferrowal-metrics");
                    thread.setDaemon(true);
                    return thread;
                });
                clock.scheduleWithFixedDelay(this::tell, every, every, TimeUnit.MILLISECONDS);
            } catch (RuntimeException e) {
                failed(e);
            }
        }

        private void tell() {
            try {
                plugin.send(new Object[] {plugin.executorID(), Metrics.values(LogOptions.Role.RECEIVERS)});
            } catch (Exception e) {
                // The next one will do; while the application ends there is nobody to tell.
                LOG.debug("cannot tell the driver the metrics of this executor", e);
            }
        }

        @Override
        public void shutdown() {
            if (clock != null) {
                clock.shutdownNow();
                tell();
            }
        }
    }
}
