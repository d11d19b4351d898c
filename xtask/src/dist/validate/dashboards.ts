// Types of Grafana's published schema in the form that they have in a JSON file: enumerations are their
// values, and options that a dashboard leaves to Grafana are absent. The dashboards follow as constants.
import type { Dashboard } from "@grafana/schema/dist/esm/raw/dashboard/x/Dashboard_types.gen";
import type * as Stat from "@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen";
import type * as TimeSeries from "@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen";
import type * as BarGauge from "@grafana/schema/dist/esm/raw/composable/bargauge/panelcfg/x/BarGaugePanelCfg_types.gen";
import type * as Heatmap from "@grafana/schema/dist/esm/raw/composable/heatmap/panelcfg/x/HeatmapPanelCfg_types.gen";

type Scalar = string | number | boolean | null | undefined;
type Json<T> = T extends string ? `${T}`
    : T extends Scalar ? T
    : T extends (infer Item)[] ? Json<Item>[]
    : { [Key in keyof T]: Json<T[Key]> };
type Part<T> = T extends Scalar ? T
    : T extends (infer Item)[] ? Part<Item>[]
    : { [Key in keyof T]?: Part<T[Key]> };
// A panel of another type is an error: add its types here.
type Options = {
    stat: Stat.Options;
    timeseries: TimeSeries.Options;
    bargauge: BarGauge.Options;
    heatmap: Heatmap.Options;
};
type Custom = {
    stat: {};
    timeseries: TimeSeries.FieldConfig;
    bargauge: {};
    heatmap: Heatmap.FieldConfig;
};
