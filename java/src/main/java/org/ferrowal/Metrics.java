package org.ferrowal;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;

/**
 * What the logs of this process did and do, in numbers: counted on the native side, one set for each
 * {@link LogOptions.Role}, from the start of the process on. Logs of several directories are added up.
 *
 * <p>Looking costs some microseconds and one call across the boundary; writes are not slowed by it. All methods may be
 * called from any thread.
 */
public final class Metrics {
    /** How the values of several processes make one. */
    public enum Kind {
        /** Only grows; added up. */
        COUNTER,
        /** Is as it is now; added up. */
        GAUGE,
        /** Is as it is now, or was in the last minute or two; of several the largest counts. */
        MOST
    }

    /**
     * One number: what it is called and means.
     *
     * @param name words in lower case, with dots between them
     * @param kind how the values of several processes make one
     * @param unit records, bytes, microseconds, …
     * @param help what is counted
     */
    public record Metric(String name, Kind kind, String unit, String help) {
    }

    private static final int TEXTS = 4;

    private Metrics() {
    }

    /** Read once, and only where somebody asks: the native library is loaded for it. */
    private static final class All {
        static final List<Metric> LIST = list();

        private static List<Metric> list() {
            NativeLibrary.load();
            String[] texts = Native.metricList();
            List<Metric> list = new ArrayList<>();
            for (int i = 0; i + TEXTS <= texts.length; i += TEXTS) {
                Kind kind = Kind.valueOf(texts[i + 1].toUpperCase(java.util.Locale.ROOT));
                list.add(new Metric(texts[i], kind, texts[i + 2], texts[i + 3]));
            }
            return List.copyOf(list);
        }
    }

    /**
     * Every metric there is.
     *
     * @return in the order of {@link #values}
     * @throws NativeLoadException when the native library cannot be loaded
     */
    public static List<Metric> all() {
        NativeLibrary.load();
        return All.LIST;
    }

    /**
     * The values now.
     *
     * @param role whose
     * @return a new array, in the order of {@link #all}
     * @throws NativeLoadException when the native library cannot be loaded
     * @throws NullPointerException when the role is null
     */
    public static long[] values(LogOptions.Role role) {
        Objects.requireNonNull(role, "role must be DRIVER or RECEIVERS, not null");
        long[] values = new long[all().size()];
        Native.metrics(role.ordinal(), values);
        return values;
    }

    /**
     * The values now, by name.
     *
     * @param role whose
     * @return in the order of {@link #all}
     * @throws NativeLoadException when the native library cannot be loaded
     * @throws NullPointerException when the role is null
     */
    public static Map<String, Long> of(LogOptions.Role role) {
        long[] values = values(role);
        Map<String, Long> named = new LinkedHashMap<>();
        for (int i = 0; i < values.length; i++) {
            named.put(all().get(i).name(), values[i]);
        }
        return named;
    }
}
