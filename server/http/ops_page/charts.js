// Small charts: the last values of a figure as a line, in SVG, with a sentence for screen readers.

const SVG = 'http://www.w3.org/2000/svg'
const WIDTH = 120
const HEIGHT = 36

export const MOST = 150 // values: 5 minutes of one each 2 s

/** The points of a line, from the oldest value at the left; null values are gaps, drawn as 0. */
export function points(values) {
  const most = Math.max(...values, 1e-9)
  const step = WIDTH / (MOST - 1)
  const start = WIDTH - step * (values.length - 1)
  return values.map((value, at) => [start + at * step, HEIGHT - 1 - ((value ?? 0) / most) * (HEIGHT - 2)])
}

export function chart() {
  const svg = document.createElementNS(SVG, 'svg')
  svg.setAttribute('viewBox', `0 0 ${WIDTH} ${HEIGHT}`)
  svg.setAttribute('preserveAspectRatio', 'none')
  svg.setAttribute('role', 'img')
  const [area, line] = ['area', 'line'].map((name) => {
    const path = document.createElementNS(SVG, 'path')
    path.setAttribute('class', `chart-${name}`)
    svg.append(path)
    return path
  })
  return {
    svg,
    show(values, label) {
      svg.setAttribute('aria-label', label)
      const found = points(values)
      const way = found.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join('L')
      line.setAttribute('d', `M${way}`)
      area.setAttribute('d', `M${found[0][0].toFixed(1)} ${HEIGHT}L${way}L${WIDTH} ${HEIGHT}Z`)
    },
  }
}
