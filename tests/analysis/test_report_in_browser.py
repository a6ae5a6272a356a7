"""The page of a report, in a real browser."""

import pytest
from evaluations import write_evaluation

from ifn_plugin.analysis.report import read_run, write_report
from ifn_plugin.datasets.drawn import write_dataset
from ifn_plugin.evaluation import LEVELS, ChangeMetric, scores

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def tested(tmp_path_factory):
    """Page about two checkpoints, and the probabilities and labels behind it."""
    folder = tmp_path_factory.mktemp('report')
    write_dataset(folder / 'data', dict(test=6), size=64)
    pairs = [write_evaluation(folder / 'run' / name, folder / 'data' / 'test', f'{name}.pth', seed, noise=noise)
             for seed, (name, noise) in enumerate((('first', 1.), ('second', 2.)))]
    write_report([read_run(folder / 'run', 'run')], folder / 'page.html', 0)
    return folder / 'page.html', pairs


def expected(pairs, threshold):
    """Scores of ``ChangeMetric`` at a threshold."""
    metric = ChangeMetric()
    for probability, label in pairs:
        metric.process(None, [dict(pred_sem_seg=dict(data=(probability > threshold)[None]),
                                   gt_sem_seg=dict(data=label[None]))])
    return metric.evaluate(len(pairs))


def shown(page, model, score):
    return page.locator(f'.bar tr[data-model="{model}"] [data-score="{score}"]').inner_text()


def check(page, pairs, threshold):
    for model, pair in enumerate(pairs):
        metrics = expected(pair, threshold)
        for score in ('Precision', 'Recall', 'F1', 'IoU'):
            assert shown(page, model, score) == f'{metrics[score]:.2f}'


def slide(page, index):
    page.locator('[name=threshold]').evaluate(
        '(slider, value) => { slider.value = value; slider.dispatchEvent(new Event("input")); }', index)


def test_the_slider_moves_the_scores_to_those_of_the_metric(tested, open_page):
    page, (path, pairs) = open_page(tested[0]), tested
    check(page, pairs, 0.5)
    for index in (0, 60, 127, 200, len(LEVELS) - 1):
        slide(page, index)
        check(page, pairs, LEVELS[index])
    page.locator('.marks button', has_text='validation').click()
    check(page, pairs, 0.3)
    page.locator('.marks button', has_text='as configured').click()
    check(page, pairs, 0.5)
    page.locator('[name=threshold]').focus()
    page.keyboard.press('ArrowRight')  # as a person moves it
    check(page, pairs, LEVELS[int(page.locator('[name=threshold]').input_value())])
    assert path.stat().st_size < 15e6


def test_the_slider_moves_the_maps_and_the_scores_below_them(tested, open_page):
    page, pairs = open_page(tested[0]), tested[1]
    slide(page, 180)
    page.locator('[name=mode]').select_option('map')
    name = page.locator('.pair').first.get_attribute('data-name')
    page.locator('.pair').first.scroll_into_view_if_needed()
    names = sorted(page.locator('.pair').evaluate_all('rows => rows.map(row => row.dataset.name)'))
    probability, label = pairs[1][names.index(name)]
    changed = probability > LEVELS[180]
    canvas = page.locator('.pair').first.locator('[data-model="1"] canvas')
    page.wait_for_function("""([canvas, number]) => {
        const {data} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
        let white = 0;
        for (let i = 0; i < data.length; i += 4) white += data[i] === 255;
        return white === number; }""", arg=[canvas.element_handle(), int(changed.sum())])
    tp = int((changed & (label == 1)).sum())
    f1 = scores(tp, int(changed.sum()) - tp, int((label == 1).sum()) - tp, 0)['F1']
    assert f'F1 {f1:.1f}' in page.locator('.pair').first.locator('[data-model="1"] figcaption').inner_text()


def test_pairs_are_filtered_and_sorted(tested, open_page):
    page, pairs = open_page(tested[0]), tested[1]
    names = page.locator('.pair').evaluate_all('rows => rows.map(row => row.dataset.name)')
    f1 = {name: expected([pair], 0.5)['F1'] for name, pair in zip(sorted(names), pairs[0])}
    assert names == sorted(names, key=f1.get)
    page.locator('[name=sort]').select_option(label='name')
    assert page.locator('.pair').evaluate_all('rows => rows.map(row => row.dataset.name)') == sorted(names)
    page.locator('[name=search]').fill(sorted(names)[2])
    assert page.locator('.pair').count() == 1 and '1 of 6 pairs' in page.locator('.number').inner_text()
    slide(page, 100)
    for model in (0, 1):
        assert shown(page, model, 'filtered') == f'{expected(pairs[model][2:3], LEVELS[100])["F1"]:.2f}'
    check(page, pairs, LEVELS[100])  # of all pairs


def test_the_swipe_swaps_the_dates_and_the_map(tested, open_page):
    page = open_page(tested[0])
    row = page.locator('.pair').first
    swipe = row.locator('.swipe')
    swipe.scroll_into_view_if_needed()
    box = swipe.bounding_box()
    for share in (0.1, 0.8):
        page.mouse.click(box['x'] + share * box['width'], box['y'] + box['height'] / 2)
        assert abs(float(swipe.evaluate('e => parseFloat(e.style.getPropertyValue("--at"))')) - 100 * share) < 8
    row.locator('button').click()
    stage, grip = page.locator('.stage'), page.locator('.grip')
    assert page.locator('.stage .name').all_inner_texts() == ['date 1', 'date 2']
    box = stage.bounding_box()
    start = grip.bounding_box()
    page.mouse.move(start['x'] + 17, start['y'] + 17)
    page.mouse.down()
    page.mouse.move(box['x'] + 0.25 * box['width'], start['y'] + 17)
    page.mouse.up()
    assert abs(float(stage.evaluate('e => parseFloat(e.style.getPropertyValue("--at"))')) - 25) < 1
    clips = stage.locator('canvas').evaluate_all('all => all.map(e => e.style.clipPath)')
    assert clips[0] != clips[1]
    scale = 'e => new DOMMatrix(e.style.transform).a'
    before = stage.locator('canvas').first.evaluate(scale)
    page.mouse.wheel(0, -400)
    page.wait_for_function('([e, before]) => new DOMMatrix(e.style.transform).a > 2 * before',
                           arg=[stage.locator('canvas').first.element_handle(), before])
    page.locator('[name=right]').select_option(label='errors: second.pth')
    page.wait_for_function('document.querySelectorAll(".stage .name")[1].textContent === "errors: second.pth"')
    title = page.locator('dialog h3').inner_text()
    page.locator('[name=next]').click()
    assert page.locator('dialog h3').inner_text() != title
    assert page.locator('[name=right]').input_value() == 'errors: second.pth'
    page.keyboard.press('Escape')
    assert not page.locator('dialog').is_visible()


def test_hovering_over_a_curve_shows_its_values(tested, open_page):
    page = open_page(tested[0])
    plot = page.locator('.chart', has_text='F1 over the threshold').locator('.u-over')
    plot.hover()
    legend = page.locator('.chart', has_text='F1 over the threshold').locator('.u-legend').inner_text()
    assert 'first.pth' in legend and any(character.isdigit() for character in legend.split('first.pth')[1])


