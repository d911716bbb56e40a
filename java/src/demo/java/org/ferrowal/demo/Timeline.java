package org.ferrowal.demo;

import java.awt.BasicStroke;
import java.awt.Color;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;

import de.erichseifert.vectorgraphics2d.VectorGraphics2D;
import de.erichseifert.vectorgraphics2d.svg.SVGProcessor;
import de.erichseifert.vectorgraphics2d.util.PageSize;
import org.knowm.xchart.AnnotationLine;
import org.knowm.xchart.AnnotationText;
import org.knowm.xchart.XYChart;
import org.knowm.xchart.XYChartBuilder;
import org.knowm.xchart.XYSeries;
import org.knowm.xchart.style.Styler;
import org.knowm.xchart.style.markers.SeriesMarkers;

/** Draws the runs: messages received, acknowledged and processed over time, the kills marked, one panel per mode. */
final class Timeline {
    private static final int WIDTH = 1000;
    private static final int PANEL_HEIGHT = 320;
    private static final int STEPS = 250;
    private static final Color KILL = new Color(0xC0, 0x30, 0x30);

    private Timeline() {
    }

    /** Writes the picture. */
    static void draw(List<CrashRun.Result> results, Path svg) throws IOException {
        double end = 5 * Math.ceil(results.stream().mapToDouble(Timeline::duration).max().orElse(1) / 5);
        VectorGraphics2D graphics = new VectorGraphics2D();
        for (CrashRun.Result result : results) {
            panel(result, end).paint(graphics, WIDTH, PANEL_HEIGHT);
            graphics.translate(0, PANEL_HEIGHT);
        }
        PageSize page = new PageSize(WIDTH, PANEL_HEIGHT * results.size());
        try (OutputStream out = Files.newOutputStream(svg)) {
            new SVGProcessor().getDocument(graphics.getCommands(), page).writeTo(out);
        }
    }

    private static XYChart panel(CrashRun.Result result, double end) {
        Ledger ledger = result.ledger();
        int lost = result.lost();
        XYChart chart = new XYChartBuilder().width(WIDTH).height(PANEL_HEIGHT)
            .title(result.mode().title + ": " + (lost == 0 ? "nothing lost" : lost + " acknowledged messages lost"))
            .xAxisTitle("seconds").yAxisTitle("messages").build();
        chart.getStyler().setLegendPosition(Styler.LegendPosition.InsideNW);
        chart.getStyler().setChartBackgroundColor(Color.WHITE);
        chart.getStyler().setXAxisMin(0.0).setXAxisMax(end);
        chart.getStyler().setXAxisDecimalPattern("0");
        chart.getStyler().setXAxisMaxLabelCount((int) end / 5 + 1);
        chart.getStyler().setYAxisMin(0.0);
        line(chart, "received", ledger, ledger.received, end, new Color(0x9A, 0xA5, 0xB1), 4f);
        line(chart, "acknowledged", ledger, ledger.acknowledged, end, new Color(0x2F, 0x6F, 0xB0), 2f);
        line(chart, "processed", ledger, ledger.processed, end, new Color(0x2E, 0x8B, 0x57), 2f);
        chart.getStyler().setAnnotationLineColor(KILL);
        chart.getStyler().setAnnotationTextFontColor(KILL);
        for (CrashRun.Kill kill : result.kills()) {
            double at = (kill.time() - start(ledger)) / 1000.0;
            chart.addAnnotation(new AnnotationLine(at, true, false));
            chart.addAnnotation(new AnnotationText("kill -9", at + end / 30, ledger.sent() * 0.06, false));
        }
        return chart;
    }

    private static void line(XYChart chart, String name, Ledger ledger, long[] times, double end, Color color, float width) {
        long[] sorted = Arrays.stream(times).filter(time -> time != Ledger.NEVER).sorted().toArray();
        double[] seconds = new double[STEPS + 1];
        double[] counts = new double[STEPS + 1];
        for (int step = 0, done = 0; step <= STEPS; step++) {
            seconds[step] = end * step / STEPS;
            while (done < sorted.length && sorted[done] - start(ledger) <= seconds[step] * 1000) {
                done++;
            }
            counts[step] = done;
        }
        XYSeries series = chart.addSeries(name, seconds, counts);
        series.setMarker(SeriesMarkers.NONE);
        series.setLineColor(color);
        series.setLineStyle(new BasicStroke(width));
    }

    private static long start(Ledger ledger) {
        return Arrays.stream(ledger.sent).min().orElse(0);
    }

    private static double duration(CrashRun.Result result) {
        Ledger ledger = result.ledger();
        long last = Arrays.stream(ledger.processed).filter(time -> time != Ledger.NEVER).max().orElse(start(ledger));
        return (last - start(ledger)) / 1000.0 + 1;
    }
}
