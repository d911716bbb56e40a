package org.ferrowal.bench;

import java.awt.BasicStroke;
import java.awt.Color;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.function.Function;
import java.util.function.ToDoubleFunction;
import java.util.regex.Pattern;
import java.util.stream.Collectors;

import de.erichseifert.vectorgraphics2d.VectorGraphics2D;
import de.erichseifert.vectorgraphics2d.svg.SVGProcessor;
import de.erichseifert.vectorgraphics2d.util.PageSize;
import org.HdrHistogram.Histogram;
import org.ferrowal.bench.rows.Contender;
import org.knowm.xchart.AnnotationLine;
import org.knowm.xchart.AnnotationText;
import org.knowm.xchart.XYChart;
import org.knowm.xchart.XYChartBuilder;
import org.knowm.xchart.XYSeries;
import org.knowm.xchart.style.Styler;
import org.knowm.xchart.style.markers.SeriesMarkers;

/**
 * Draws what a run measured, as SVG files. White ground and dark lines: readable in a light page and in a dark one. What is
 * durable is drawn solid, what is not dashed; the device is black, ferrowal is thick.
 */
final class Charts {
    private static final int WIDTH = 960;
    private static final int HEIGHT = 520;
    private static final int SMALL_WIDTH = 720;
    private static final int SMALL_HEIGHT = 320;
    private static final int WIDE_TICKS = 70;
    private static final Color INK = new Color(0x22, 0x22, 0x22);
    private static final Color GRID = new Color(0xD9, 0xDD, 0xE2);
    private static final Color SPAN = new Color(0x8A, 0x93, 0x9E);
    private static final Pattern DECIMALS = Pattern.compile("(\\d+\\.\\d{2})\\d+");
    private static final String IDEAL = "the ideal";
    /** By a row's place in the list of all rows, so that a row has the same colour in every chart. */
    private static final Color[] COLORS = {
        new Color(0xC1, 0x3B, 0x1B), new Color(0xE8, 0x9B, 0x6C), new Color(0x2F, 0x6F, 0xB0), new Color(0x8F, 0xB8, 0xDE),
        new Color(0x6A, 0x4C, 0x93), new Color(0x2E, 0x8B, 0x57), new Color(0x8C, 0x6D, 0x1F), new Color(0xB0, 0x5A, 0x9A),
        new Color(0x7A, 0x1F, 0x5C), new Color(0x1F, 0x8A, 0x8A), new Color(0x8A, 0xC7, 0xC7), new Color(0x55, 0x60, 0x6B),
        new Color(0xA3, 0xAB, 0xB5), new Color(0xD8, 0xB4, 0x2A), new Color(0xE2, 0x7D, 0xA8)};
    private static final double[] QUANTILES = {0.1, 1, 2, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 98, 99, 99.5, 99.8, 99.9,
        99.95, 99.99};

    private final Path directory;
    private final List<String> rows;

    /**
     * Draws into a directory, which is made.
     *
     * @param rows the names of all rows there are, for their colours
     */
    Charts(Path directory, List<String> rows) throws IOException {
        this.directory = Files.createDirectories(directory);
        this.rows = rows;
    }

    private record Line(String name, Color color, boolean durable, float width, List<double[]> points) {
    }

    /**
     * All charts of a grid.
     *
     * @return the files
     */
    List<Path> grid(List<Cell> cells) throws IOException {
        List<Path> files = new ArrayList<>();
        Map<Integer, List<Cell>> bySize = by(cells, Cell::size);
        Map<Integer, List<Cell>> byThreads = by(cells, Cell::threads);
        for (Map.Entry<Integer, List<Cell>> size : bySize.entrySet()) {
            if (size.getValue().size() > 1) {
                String name = Report.size(size.getKey());
                XYChart chart = chart("Records of " + name, "threads", "records a second");
                chart.getStyler().setXAxisLogarithmic(true).setYAxisLogarithmic(true);
                lines(chart, curves(size.getValue(), Cell::threads, Sample::rate, true));
                files.add(write(chart, "throughput-over-threads-" + file(name)));
                chart = chart("Records of " + name + ": share of the ideal", "threads", "share of the ideal");
                chart.getStyler().setXAxisLogarithmic(true).setYAxisMin(0.0);
                lines(chart, curves(size.getValue(), Cell::threads, Sample::share, false).stream()
                    .filter(Line::durable).toList());
                files.add(write(chart, "share-of-ideal-" + file(name)));
            }
        }
        for (Map.Entry<Integer, List<Cell>> threads : byThreads.entrySet()) {
            if (threads.getValue().size() > 1) {
                XYChart chart = chart(threads.getKey() + (threads.getKey() == 1 ? " thread" : " threads"), "bytes in a record",
                    "MB a second");
                chart.getStyler().setXAxisLogarithmic(true).setYAxisLogarithmic(true);
                List<Line> lines = new ArrayList<>();
                for (Line line : curves(threads.getValue(), Cell::size, Sample::rate, true)) {
                    lines.add(new Line(line.name, line.color, line.durable, line.width, line.points.stream()
                        .map(point -> new double[] {point[0], point[0] * point[1] / 1e6}).toList()));
                }
                lines(chart, lines);
                files.add(write(chart, "throughput-over-size-" + threads.getKey()));
            }
        }
        for (Cell cell : cells) {
            files.add(latency(cell));
        }
        return files;
    }

    private Path latency(Cell cell) throws IOException {
        String name = Report.size(cell.size()) + " × " + cell.threads();
        XYChart chart = chart("Time of one write, " + name, "microseconds", "percent of writes that took no longer");
        chart.getStyler().setXAxisLogarithmic(true);
        List<Line> lines = new ArrayList<>();
        for (Map.Entry<Contender, Cell.Result> entry : cell.results().entrySet()) {
            Histogram nanos = entry.getValue().nanos();
            if (nanos.getTotalCount() == 0) {
                continue;
            }
            List<double[]> points = new ArrayList<>();
            for (double quantile : QUANTILES) {
                points.add(new double[] {Math.max(nanos.getValueAtPercentile(quantile) / 1e3, 0.01), quantile});
            }
            lines.add(line(entry.getKey(), points));
        }
        lines(chart, lines);
        return write(chart, "latency-" + file(Report.size(cell.size())) + "-" + cell.threads());
    }

    /**
     * A chart of one figure over another, for what is not the grid.
     *
     * @param points x and y of each line, by its name
     */
    Path plain(String file, String title, String x, String y, boolean logX, Map<String, List<double[]>> points)
            throws IOException {
        XYChart chart = chart(title, x, y);
        chart.getStyler().setXAxisLogarithmic(logX).setYAxisMin(0.0);
        List<Line> lines = new ArrayList<>();
        points.forEach((name, all) -> lines.add(new Line(name, COLORS[lines.size() % COLORS.length], true, 2f, all)));
        lines(chart, lines);
        return write(chart, file);
    }

    /** Something that went on between two times, in seconds. */
    record Span(String name, double from, double to) {
    }

    /**
     * A smaller chart of what went on over time, in seconds, with what happened meanwhile between upright lines.
     *
     * @param points seconds and value of each line, by its name
     */
    Path overTime(String file, String title, String y, boolean logY, List<Span> spans, Map<String, List<double[]>> points)
            throws IOException {
        XYChart chart = chart(title, "seconds", y, SMALL_WIDTH, SMALL_HEIGHT);
        double[] values = points.values().stream().flatMap(List::stream).mapToDouble(point -> point[1])
            .filter(value -> value > 0).toArray();
        double highest = Arrays.stream(values).max().orElse(1);
        double last = points.values().stream().flatMap(List::stream).mapToDouble(point -> point[0]).max().orElse(1);
        // A little room above the lines, for the names of what happened.
        double top = highest * 1.2;
        double least = 0;
        if (logY) {
            // Whole decades: only these have figures at the axis.
            top = Math.pow(10, Math.ceil(Math.log10(highest)));
            least = Math.pow(10, Math.floor(Math.log10(Arrays.stream(values).min().orElse(1))));
        }
        chart.getStyler().setYAxisLogarithmic(logY).setYAxisMin(least).setYAxisMax(top).setXAxisMin(0.0).setXAxisMax(last)
            .setXAxisTickMarkSpacingHint(WIDE_TICKS).setLegendPosition(Styler.LegendPosition.OutsideS)
            .setLegendLayout(Styler.LegendLayout.Horizontal).setLegendVisible(points.size() > 1)
            .setAnnotationLineColor(SPAN).setAnnotationTextFontColor(INK);
        double above = logY ? top / Math.pow(top / least, 0.05) : top * 0.95;
        for (Span span : spans) {
            chart.addAnnotation(new AnnotationLine(span.from, true, false));
            chart.addAnnotation(new AnnotationLine(span.to, true, false));
            chart.addAnnotation(new AnnotationText(span.name, (span.from + span.to) / 2, above, false));
        }
        List<Line> lines = new ArrayList<>();
        points.forEach((name, all) -> lines.add(new Line(name, COLORS[2 * lines.size() % COLORS.length], true, 2f, all)));
        lines(chart, lines);
        return write(chart, file);
    }

    private static Map<Integer, List<Cell>> by(List<Cell> cells, Function<Cell, Integer> key) {
        return cells.stream().collect(Collectors.groupingBy(key, LinkedHashMap::new, Collectors.toList()));
    }

    private List<Line> curves(List<Cell> cells, Function<Cell, Integer> x, ToDoubleFunction<Sample> y, boolean ideal) {
        Map<String, Line> lines = new LinkedHashMap<>();
        for (Cell cell : cells) {
            if (ideal) {
                lines.computeIfAbsent(IDEAL, name -> new Line(name, INK, true, 2f, new ArrayList<>())).points
                    .add(new double[] {x.apply(cell), Sample.Figure.of(cell.device(), y).median()});
            }
            cell.results().forEach((contender, result) -> {
                double value = Sample.Figure.of(result.samples(), y).median();
                if (!Double.isNaN(value) && value > 0) {
                    lines.computeIfAbsent(contender.id(), id -> line(contender, new ArrayList<>())).points
                        .add(new double[] {x.apply(cell), value});
                }
            });
        }
        return List.copyOf(lines.values());
    }

    private Line line(Contender contender, List<double[]> points) {
        int place = Math.max(rows.indexOf(contender.id()), 0);
        return new Line(contender.title(), COLORS[place % COLORS.length], contender.durable(),
            contender.id().startsWith("ferrowal") ? 4f : 1.8f, points);
    }

    private static XYChart chart(String title, String x, String y) {
        return chart(title, x, y, WIDTH, HEIGHT);
    }

    private static XYChart chart(String title, String x, String y, int width, int height) {
        XYChart chart = new XYChartBuilder().width(width).height(height).title(title).xAxisTitle(x).yAxisTitle(y).build();
        Styler styler = chart.getStyler();
        styler.setChartBackgroundColor(Color.WHITE).setChartFontColor(INK).setPlotBackgroundColor(Color.WHITE)
            .setLegendBackgroundColor(Color.WHITE).setLegendPosition(Styler.LegendPosition.OutsideE);
        chart.getStyler().setPlotGridLinesColor(GRID).setAxisTickLabelsColor(INK).setXAxisTitleColor(INK)
            .setYAxisGroupTitleColor(0, INK);
        return chart;
    }

    private static void lines(XYChart chart, List<Line> lines) {
        for (Line line : lines) {
            if (line.points.isEmpty()) {
                continue;
            }
            XYSeries series = chart.addSeries(line.name, line.points.stream().mapToDouble(point -> point[0]).toArray(),
                line.points.stream().mapToDouble(point -> point[1]).toArray());
            series.setMarker(line.points.size() > 12 ? SeriesMarkers.NONE : SeriesMarkers.CIRCLE);
            series.setMarkerColor(line.color);
            series.setLineColor(line.color);
            series.setLineStyle(line.durable ? new BasicStroke(line.width)
                : new BasicStroke(line.width, BasicStroke.CAP_BUTT, BasicStroke.JOIN_ROUND, 10f, new float[] {6f, 4f}, 0f));
        }
    }

    private static String file(String text) {
        return text.toLowerCase(Locale.ROOT).replace(" ", "");
    }

    private Path write(XYChart chart, String name) throws IOException {
        Path svg = directory.resolve(name + ".svg");
        VectorGraphics2D graphics = new VectorGraphics2D();
        chart.paint(graphics, chart.getWidth(), chart.getHeight());
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        new SVGProcessor().getDocument(graphics.getCommands(), new PageSize(chart.getWidth(), chart.getHeight())).writeTo(out);
        // Text is drawn as outlines, to seven decimals of a pixel: without most of them the files are half as long.
        Files.writeString(svg, DECIMALS.matcher(out.toString(StandardCharsets.UTF_8)).replaceAll("$1"));
        return svg;
    }
}
