// A dashboard's page: the panels of its definition, drawn by the components that Grafana itself uses.
import {
  createTheme,
  FieldType,
  getDisplayProcessor,
  renderTextPanelMarkdown,
  standardTransformers,
  standardTransformersRegistry,
  toDataFrame,
  transformDataFrame,
  dateTime,
} from '@grafana/data';
import { BarGauge, BigValue, GlobalStyles, Table, ThemeContext, TimeSeries } from '@grafana/ui';
import React from 'react';
import { createRoot } from 'react-dom/client';
import 'uplot/dist/uPlot.min.css';

const { dashboard, answers, from, to } = window.INPUT;
const theme = createTheme({ colors: { mode: 'dark' } });
const COLUMN = 1440 / 24;
const ROW = 38;
const GAP = 8;
const timeRange = { from: dateTime(from), to: dateTime(to), raw: { from: dateTime(from), to: dateTime(to) } };

standardTransformersRegistry.setInit(() =>
  ['mergeTransformer', 'organizeFieldsTransformer', 'convertFieldTypeTransformer'].map((name) => standardTransformers[name]).map((one) => ({ id: one.id, name: one.name, transformation: async () => one }))
);

function legendOf(target, labels) {
  if (target.legendFormat === '__auto') {
    return Object.values(labels).join(' ') || 'value';
  }
  return target.legendFormat.replace(/\{\{(\w+)\}\}/g, (_, name) => labels[name] ?? '');
}

function configured(field, panel) {
  const { defaults, overrides } = panel.fieldConfig;
  const config = { ...structuredClone(defaults), ...field.config, custom: { ...structuredClone(defaults.custom ?? {}) } };
  const name = config.displayName ?? field.name;
  for (const override of overrides ?? []) {
    if (override.matcher.options !== name) {
      continue;
    }
    for (const { id, value } of override.properties) {
      if (id.startsWith('custom.')) {
        config.custom[id.slice(7)] = value;
      } else {
        config[id] = value;
      }
    }
  }
  if (field.type !== FieldType.number && !(overrides ?? []).some((one) => one.matcher.options === name)) {
    delete config.unit;
  }
  const done = { ...field, config };
  done.display = getDisplayProcessor({ field: done, theme, timeZone: 'utc' });
  return done;
}

function lines(panel) {
  return panel.targets.flatMap((target) =>
    (answers[panel.id]?.[target.refId] ?? []).map(({ metric, values }) => {
      const frame = toDataFrame({
        refId: target.refId,
        fields: [
          { name: 'Time', type: FieldType.time, values: values.map(([time]) => time * 1000) },
          {
            name: 'Value',
            type: FieldType.number,
            labels: metric,
            config: { displayName: legendOf(target, metric) },
            values: values.map(([, value]) => Number(value)),
          },
        ],
      });
      frame.fields = frame.fields.map((field) => (field.type === FieldType.time ? configured(field, { fieldConfig: { defaults: {}, overrides: [] } }) : configured(field, panel)));
      frame.fields.forEach((field, index) => { field.state = { seriesIndex: index - 1, displayName: field.config.displayName }; });
      return frame;
    })
  );
}

async function rows(panel) {
  const frames = panel.targets.map((target) => {
    const series = answers[panel.id]?.[target.refId] ?? [];
    const names = [...new Set(series.flatMap(({ metric }) => Object.keys(metric)))].sort();
    const value = panel.targets.length > 1 ? `Value #${target.refId}` : 'Value';
    return toDataFrame({
      refId: target.refId,
      fields: [
        { name: 'Time', type: FieldType.time, values: series.map(({ values }) => values.at(-1)[0] * 1000) },
        ...names.map((name) => ({ name, type: FieldType.string, values: series.map(({ metric }) => metric[name] ?? '') })),
        { name: value, type: FieldType.number, values: series.map(({ values }) => Number(values.at(-1)[1])) },
      ],
    });
  });
  const done = await new Promise((resolve) => {
    transformDataFrame(panel.transformations, frames).subscribe((found) => resolve(found));
  });
  const frame = done[0];
  if (frame) {
    frame.fields = frame.fields.map((field) => configured({ ...field, name: field.config.displayName ?? field.name }, panel));
  }
  return frame;
}

function Lines({ panel, width, height }) {
  const frames = lines(panel);
  if (!frames.length) {
    return <Empty panel={panel} />;
  }
  frames.forEach((frame, index) => { frame.fields[1].state.seriesIndex = index; });
  return (
    <TimeSeries frames={frames} structureRev={1} timeRange={timeRange} timeZone="utc" width={width} height={height} legend={panel.options.legend} options={panel.options} />
  );
}

function rangeOf(field) {
  const [min, max] = [Math.min(...field.values), Math.max(...field.values)];
  return { min, max, delta: max - min };
}

function Numbers({ panel, width, height }) {
  const frames = lines(panel);
  if (!frames.length) {
    return <Empty panel={panel} />;
  }
  const each = Math.floor(width / frames.length) - 4;
  return (
    <div style={{ display: 'flex', gap: 4 }}>
      {frames.map((frame, index) => {
        const field = frame.fields[1];
        const value = { ...field.display(field.values.at(-1)), title: panel.options.textMode === 'value' ? '' : field.config.displayName };
        return (
          <BigValue key={index} value={value} theme={theme} width={each} height={height} colorMode="value" graphMode={panel.options.graphMode}
            justifyMode="auto" sparkline={{ x: frame.fields[0], y: { ...field, config: { ...field.config, color: { mode: 'fixed', fixedColor: value.color } }, state: { ...field.state, range: rangeOf(field) } } }} />
        );
      })}
    </div>
  );
}

function Bars({ panel, width, height }) {
  const frames = lines(panel);
  if (!frames.length) {
    return <Empty panel={panel} />;
  }
  const each = Math.max(panel.options.minVizHeight, Math.floor(height / frames.length) - 4);
  const shown = frames.map(({ fields: [, field] }) => ({ ...field.display(field.values.at(-1)), title: field.config.displayName }));
  const longest = (texts) => texts.reduce((found, text) => (text.length > found.length ? text : found), '');
  const alignmentFactors = { title: longest(shown.map(({ title }) => title)), text: longest(shown.map(({ text }) => text)) };
  return (
    <div style={{ height, overflow: 'hidden' }}>
      {frames.map((frame, index) => {
        const field = frame.fields[1];
        const value = shown[index];
        return (
          <div key={index} style={{ marginBottom: 4 }}>
            <BarGauge value={value} alignmentFactors={alignmentFactors} field={field.config} display={field.display} theme={theme} width={width} height={Math.min(each, 40)}
              orientation="horizontal" displayMode={panel.options.displayMode} itemSpacing={4} lcdCellWidth={8} showUnfilled={true} namePlacement="left" />
          </div>
        );
      })}
    </div>
  );
}

function Rows({ panel, width, height }) {
  const frame = panel.frame;
  if (!frame?.length) {
    return <Empty panel={panel} />;
  }
  const sort = panel.options.sortBy?.map((one) => ({ ...one }));
  return <Table data={frame} width={width} height={height} initialSortBy={sort} cellHeight="sm" timeRange={timeRange} enableSharedCrosshair={false} />;
}

function Empty({ panel }) {
  return <div style={{ color: theme.colors.text.secondary, textAlign: 'center', paddingTop: 20 }}>{panel.fieldConfig.defaults.noValue ?? 'No data'}</div>;
}

const KINDS = { timeseries: Lines, stat: Numbers, bargauge: Bars, table: Rows };

function Panel({ panel }) {
  const { x = 0, y = 0, w, h } = panel.gridPos;
  const style = { position: 'absolute', left: x * COLUMN, top: y * ROW, width: w * COLUMN - GAP, height: h * ROW - GAP };
  if (panel.type === 'row') {
    return <div style={{ ...style, fontWeight: 500, paddingTop: 6, fontSize: 15 }}>{panel.title}</div>;
  }
  const Kind = KINDS[panel.type];
  const border = `1px solid ${theme.colors.border.weak}`;
  return (
    <div style={{ ...style, background: theme.colors.background.primary, border, borderRadius: 2, overflow: 'hidden' }} data-panel={panel.title}>
      <div style={{ padding: '5px 8px', fontWeight: 500, fontSize: 14, height: 22 }}>{panel.title}</div>
      <div style={{ padding: '0 8px' }}>
        {Kind ? <Kind panel={panel} width={w * COLUMN - GAP - 18} height={h * ROW - GAP - 36} /> : <div className="markdown-html" style={{ fontSize: 14 }} dangerouslySetInnerHTML={{ __html: renderTextPanelMarkdown(panel.options.content) }} />}
      </div>
    </div>
  );
}

class Guard extends React.Component {
  state = {};
  static getDerivedStateFromError(error) {
    return { error };
  }
  componentDidCatch(error) {
    console.error('PANEL', this.props.title, String(error));
  }
  render() {
    return this.state.error ? <div>{String(this.state.error)}</div> : this.props.children;
  }
}

async function main() {
  for (const panel of dashboard.panels) {
    if (panel.type === 'table') {
      panel.frame = await rows(panel);
    }
  }
  const bottom = Math.max(...dashboard.panels.map(({ gridPos }) => (gridPos.y ?? 0) + gridPos.h));
  document.body.style.cssText = `margin: 0; background: ${theme.colors.background.canvas}; color: ${theme.colors.text.primary}; font-family: Inter, "DejaVu Sans", sans-serif; font-size: 14px`;
  const root = document.getElementById('root');
  root.style.cssText = `position: relative; width: 1440px; height: ${bottom * ROW + 40}px`;
  createRoot(root).render(
    <ThemeContext.Provider value={theme}>
      <GlobalStyles isExtensionSidebarOpen={false} />
      <div style={{ padding: '10px 8px', fontSize: 18, fontWeight: 500, height: 20 }}>Citadel / {dashboard.title}</div>
      <div style={{ position: 'absolute', left: 4, top: 40 }}>
        {dashboard.panels.map((panel) => (
          <Guard key={panel.id} title={panel.title}>
            <Panel panel={panel} />
          </Guard>
        ))}
      </div>
    </ThemeContext.Provider>
  );
  setTimeout(() => { window.DRAWN = true; }, 1500);
}

main();
