// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";

import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuard} from "@openzeppelin/contracts/utils/ReentrancyGuard.sol";

import {DepositAddress} from "../src/DepositAddress.sol";
import {ICouncil} from "../src/interfaces/ICouncil.sol";
import {IPaymentRouter} from "../src/interfaces/IPaymentRouter.sol";
import {Money} from "../src/Money.sol";
import {Names} from "../src/Names.sol";
import {Records} from "../src/Records.sol";
import {City} from "./City.sol";
import {CallsBack, Closed, Forwarding, HostileToken, Silent} from "./HostileTokens.sol";
import {TestToken} from "./TestToken.sol";
import {vm} from "./Vm.sol";

contract PaymentRouterTest is City {
    HostileToken internal hostile;
    Closed internal closed;
    address internal payer = address(this);

    function setUp() public override {
        super.setUp();
        hostile = new HostileToken();
        closed = new Closed();
        enactAsset("TKZT", address(token));
        enactAsset("HOST", address(hostile));
        enactAsset("COIN", Money.COIN);
        enactShare("fee", 10_000);
        enactShare("sale", 100);
        enactParameter(Names.DIRECT_SETTLEMENT, 1);
        vm.warp(START + 14 days);
        token.mint(payer, 1e30);
        hostile.mint(payer, 1e30);
        token.approve(address(router), type(uint256).max);
        hostile.approve(address(router), type(uint256).max);
        vm.deal(payer, 1e30);
    }

    // --- pay ---

    function testFuzz_a_payment_is_split_to_the_last_unit_and_dust_is_the_citys(uint128 amount, uint16 share) external {
        amount = uint128(within(amount, 1, 1e30));
        share = uint16(within(share, 100, 10_000));
        IPaymentRouter.Quote memory quote = _quote(address(token), amount, share);
        _pay(quote);
        uint256 city = token.balanceOf(address(treasury));
        same(city + token.balanceOf(merchant), amount);
        isTrue(city * 10_000 >= uint256(amount) * share && city * 10_000 < uint256(amount) * share + 10_000);
        same(token.balanceOf(address(router)), 0);
    }

    function testFuzz_coin_is_split_alike(uint128 amount, uint16 share) external {
        amount = uint128(within(amount, 1, 1e30));
        share = uint16(within(share, 100, 10_000));
        _payNative(_quote(Money.COIN, amount, share), amount);
        same(address(treasury).balance + merchant.balance, amount);
        same(address(treasury).balance, (uint256(amount) * share + 9_999) / 10_000);
    }

    function test_a_quote_is_paid_once() external {
        IPaymentRouter.Quote memory quote = _quote(address(token), 1_000, 300);
        _pay(quote);
        _payRefused(quote, abi.encodeWithSelector(IPaymentRouter.QuoteUsed.selector, router.quoteHash(quote)));
    }

    function test_leak_08_quotes_that_break_a_rule_are_refused_with_both_numbers() external {
        IPaymentRouter.Quote memory quote = _quote(address(token), 1_000, 99);
        _payRefused(quote, abi.encodeWithSelector(IPaymentRouter.ShareTooSmall.selector, 100, 99));
        quote = _quote(address(token), 1_000, 10_001);
        _payRefused(quote, abi.encodeWithSelector(IPaymentRouter.ShareTooLarge.selector, 10_000, 10_001));
        quote = _quote(address(token), 1_000, 9_999);
        quote.purpose = "fee";
        _payRefused(quote, abi.encodeWithSelector(IPaymentRouter.ShareTooSmall.selector, 10_000, 9_999));
        quote.purpose = "other";
        _payRefused(quote, abi.encodeWithSelector(ICouncil.UnknownCode.selector, bytes32("other")));
        quote = _quote(address(token), 0, 300);
        _payRefused(quote, abi.encodeWithSelector(IPaymentRouter.AmountIsZero.selector, quote.invoice));
        quote = _quote(address(0x1234), 1_000, 300);
        _payRefused(quote, abi.encodeWithSelector(IPaymentRouter.AssetNotAllowed.selector, address(0x1234)));
        quote = _quote(address(token), 1_000, 300);
        quote.merchant = address(0);
        _payRefused(quote, abi.encodeWithSelector(IPaymentRouter.MerchantNotAllowed.selector, address(0)));
        quote.merchant = address(router);
        _payRefused(quote, abi.encodeWithSelector(IPaymentRouter.MerchantNotAllowed.selector, address(router)));
        _payRefused(
            _quote(Money.COIN, 1_000, 300), abi.encodeWithSelector(IPaymentRouter.TokenIsCoin.selector, Money.COIN)
        );
    }

    function test_ff13_a_token_that_the_council_did_not_allow_pays_nothing_however_it_is_called() external {
        // The same name and decimals, at another address.
        TestToken fake = new TestToken("Test tenge", "TKZT");
        fake.mint(payer, 1_000);
        fake.approve(address(router), 1_000);
        _payRefused(
            _quote(address(fake), 1_000, 300),
            abi.encodeWithSelector(IPaymentRouter.AssetNotAllowed.selector, address(fake))
        );
        same(fake.balanceOf(payer), 1_000);
    }

    function test_a_quote_ends_with_its_last_second() external {
        IPaymentRouter.Quote memory quote = _quote(address(token), 1_000, 300);
        vm.warp(quote.validUntil + 1);
        _payRefused(
            quote, abi.encodeWithSelector(IPaymentRouter.QuoteExpired.selector, quote.validUntil, quote.validUntil + 1)
        );
        vm.warp(quote.validUntil);
        _pay(quote);
    }

    function test_only_a_seated_gateway_signs_quotes() external {
        IPaymentRouter.Quote memory quote = _quote(address(token), 1_000, 300);
        (bytes32 r, bytes32 vs) = _signed(quote, OPERATOR);
        vm.expectRevert(abi.encodeWithSelector(IPaymentRouter.NotSeated.selector, Names.GATEWAY, vm.addr(OPERATOR)));
        router.pay(quote, r, vs);
        (r, vs) = _signed(quote, GATEWAY);
        quote.amount = 1;
        vm.expectRevert();
        router.pay(quote, r, vs);
    }

    function test_an_asset_is_taken_in_its_term_only() external {
        vm.warp(FOREVER);
        IPaymentRouter.Quote memory quote = _quote(address(token), 1_000, 300);
        _payRefused(quote, abi.encodeWithSelector(IPaymentRouter.AssetNotInForce.selector, START, FOREVER, FOREVER));
        vm.warp(FOREVER - 1);
        _pay(quote);
    }

    function test_nothing_is_taken_or_flushed_without_the_act_for_direct_settlement() external {
        enactParameter(Names.DIRECT_SETTLEMENT, 0);
        vm.warp(START + 28 days);
        bytes memory off = abi.encodeWithSelector(IPaymentRouter.DirectSettlementOff.selector, 1, 0);
        _payRefused(_quote(address(token), 1_000, 300), off);
        IPaymentRouter.Terms[] memory terms = _terms(1);
        token.mint(router.depositAddress(terms[0]), 5);
        vm.expectRevert(off);
        router.flush(terms, address(token));
    }

    function test_coin_is_paid_to_the_unit() external {
        IPaymentRouter.Quote memory quote = _quote(Money.COIN, 1_000, 300);
        (bytes32 r, bytes32 vs) = _signed(quote, GATEWAY);
        vm.expectRevert(abi.encodeWithSelector(IPaymentRouter.WrongValue.selector, 1_000, 999));
        router.payNative{value: 999}(quote, r, vs);
        quote = _quote(address(token), 1_000, 300);
        (r, vs) = _signed(quote, GATEWAY);
        vm.expectRevert(abi.encodeWithSelector(IPaymentRouter.TokenNotCoin.selector, address(token)));
        router.payNative{value: 1_000}(quote, r, vs);
    }

    function test_coin_that_belongs_to_nobody_is_not_taken() external {
        (bool taken, bytes memory refusal) = address(router).call{value: 1}("");
        isTrue(!taken);
        same(keccak256(refusal), keccak256(abi.encodeWithSelector(IPaymentRouter.CoinNotExpected.selector, payer)));
    }

    function test_a_resident_without_allowance_hears_why_from_the_token() external {
        token.approve(address(router), 999);
        _payRefused(
            _quote(address(token), 1_000, 10_000),
            abi.encodeWithSelector(IERC20Errors.ERC20InsufficientAllowance.selector, address(router), 999, 1_000)
        );
    }

    function test_a_token_that_takes_a_fee_or_lies_is_refused_in_pay() external {
        IPaymentRouter.Quote memory quote = _quote(address(hostile), 1_000, 300);
        hostile.set(HostileToken.Mode.TakesFee);
        _payRefused(quote, abi.encodeWithSelector(IPaymentRouter.AmountDiffers.selector, address(treasury), 30, 29));
        hostile.set(HostileToken.Mode.SaysYesMovesNothing);
        _payRefused(quote, abi.encodeWithSelector(IPaymentRouter.AmountDiffers.selector, address(treasury), 30, 0));
        hostile.set(HostileToken.Mode.ReturnsFalse);
        (bytes32 r, bytes32 vs) = _signed(quote, GATEWAY);
        vm.expectRevert();
        router.pay(quote, r, vs);
        isTrue(!router.isQuoteUsed(vm.addr(GATEWAY), quote));
    }

    function test_ff60_a_merchant_on_a_denylist_is_credited_and_the_city_still_paid() external {
        hostile.deny(merchant);
        _pay(_quote(address(hostile), 1_000, 300));
        same(hostile.balanceOf(address(treasury)), 30);
        same(router.credit(merchant, address(hostile)), 970);
        vm.expectRevert(abi.encodeWithSelector(IPaymentRouter.NotReceived.selector, merchant, address(hostile)));
        router.pull(merchant, address(hostile));
        hostile.deny(address(0));
        router.pull(merchant, address(hostile));
        same(hostile.balanceOf(merchant), 970);
        vm.expectRevert(abi.encodeWithSelector(IPaymentRouter.NothingCredited.selector, merchant, address(hostile)));
        router.pull(merchant, address(hostile));
    }

    function test_a_merchant_that_refuses_coin_is_credited() external {
        merchant = address(closed);
        _payNative(_quote(Money.COIN, 1_000, 300), 1_000);
        same(router.credit(merchant, Money.COIN), 970);
        closed.set(true);
        router.pull(merchant, Money.COIN);
        same(merchant.balance, 970);
    }

    function test_ff57_a_token_that_calls_back_into_a_door_under_the_lock_finds_it_locked() external {
        IPaymentRouter.Terms[] memory terms = _terms(1);
        (IPaymentRouter.Permit memory permit, IPaymentRouter.Permit2 memory payer2) = (_noPermit(), _noPermit2());
        IPaymentRouter.Quote memory other = _quote(address(hostile), 500, 300);
        (bytes32 r, bytes32 vs) = _signed(other, GATEWAY);
        IPaymentRouter.Authorization memory payer3 = IPaymentRouter.Authorization(payer, 27, 0, 0);
        bytes[5] memory doors = [
            abi.encodeCall(router.payWithPermit, (other, r, vs, permit)),
            abi.encodeCall(router.payWithPermit2, (other, r, vs, payer2)),
            abi.encodeCall(router.payWithAuthorization, (other, r, vs, payer3)),
            abi.encodeCall(router.flush, (terms, address(token))),
            abi.encodeCall(router.pull, (merchant, address(token)))
        ];
        hostile.mint(router.depositAddress(terms[0]), 1_000);
        for (uint256 i = 0; i < doors.length; ++i) {
            hostile.reenter(address(router), doors[i]);
            vm.expectRevert();
            router.flush(terms, address(hostile));
            // The lock itself, without the deposit address between.
            hostile.allowReentry(false);
            router.flush(terms, address(hostile));
            same(bytes32(bytes4(hostile.answer())), bytes32(ReentrancyGuard.ReentrancyGuardReentrantCall.selector));
            hostile.allowReentry(true);
            hostile.mint(router.depositAddress(terms[0]), 1_000);
        }
    }

    function test_ff59_an_inflow_that_came_in_between_is_not_counted_twice() external {
        IPaymentRouter.Quote memory quote = _quote(address(hostile), 1_000, 300);
        IPaymentRouter.Quote memory inner = _quote(address(hostile), 1_000, 300);
        (quote.nonce, inner.invoice) = (8, keccak256("inner"));
        (bytes32 r, bytes32 vs) = _signed(inner, GATEWAY);
        hostile.mint(address(hostile), 1_000);
        hostile.allow(address(router), 1_000);
        // The token pays another quote in the middle of this one: 30 came for each, and the outer one sees 60.
        hostile.reenter(address(router), abi.encodeCall(router.pay, (inner, r, vs)));
        _payRefused(quote, abi.encodeWithSelector(IPaymentRouter.AmountDiffers.selector, address(treasury), 30, 60));
        // A flush in the middle does no better.
        IPaymentRouter.Terms[] memory terms = _terms(1);
        hostile.mint(router.depositAddress(terms[0]), 3_000);
        hostile.reenter(address(router), abi.encodeCall(router.flush, (terms, address(hostile))));
        _payRefused(quote, abi.encodeWithSelector(IPaymentRouter.AmountDiffers.selector, address(treasury), 30, 60));
    }

    function test_ff59_nor_by_a_flush() external {
        IPaymentRouter.Quote memory inner = _quote(address(hostile), 1_000, 300);
        (bytes32 r, bytes32 vs) = _signed(inner, GATEWAY);
        hostile.mint(address(hostile), 1_000);
        hostile.allow(address(router), 1_000);
        IPaymentRouter.Terms[] memory terms = _terms(1);
        hostile.mint(router.depositAddress(terms[0]), 3_000);
        hostile.reenter(address(router), abi.encodeCall(router.pay, (inner, r, vs)));
        vm.expectRevert(abi.encodeWithSelector(IPaymentRouter.AmountDiffers.selector, address(treasury), 30, 60));
        router.flush(terms, address(hostile));
        same(hostile.balanceOf(address(treasury)), 0);
    }

    function test_ff57_a_merchant_that_calls_back_while_it_takes_coin_pays_and_pulls_nothing_twice() external {
        CallsBack greedy = new CallsBack();
        merchant = address(greedy);
        IPaymentRouter.Quote memory quote = _quote(Money.COIN, 1_000, 300);
        (bytes32 r, bytes32 vs) = _signed(quote, GATEWAY);
        vm.deal(address(greedy), 1_000);
        // The quote is used up before the coin moves: it is not paid a second time out of what has just come.
        greedy.reenter(address(router), abi.encodeCall(router.payNative, (quote, r, vs)), 1_000);
        router.payNative{value: 1_000}(quote, r, vs);
        same(
            keccak256(greedy.answer()),
            keccak256(abi.encodeWithSelector(IPaymentRouter.QuoteUsed.selector, router.quoteHash(quote)))
        );
        same(address(greedy).balance, 1_000 + 970);
        same(address(treasury).balance, 30);
        same(address(router).balance, 0);
        // In a flush and in a pull the doors are locked.
        IPaymentRouter.Terms[] memory terms = _terms(1);
        vm.deal(router.depositAddress(terms[0]), 1_000);
        greedy.reenter(address(router), abi.encodeCall(router.flush, (terms, Money.COIN)), 0);
        router.flush(terms, Money.COIN);
        same(bytes32(bytes4(greedy.answer())), bytes32(ReentrancyGuard.ReentrancyGuardReentrantCall.selector));
        same(address(greedy).balance, 1_000 + 970 + 990);
        same(address(treasury).balance, 30 + 10);
    }

    function test_ff57_a_pull_in_the_middle_of_a_pull_finds_the_door_locked() external {
        hostile.deny(merchant);
        _pay(_quote(address(hostile), 1_000, 300));
        hostile.deny(address(0));
        hostile.allowReentry(false);
        hostile.reenter(address(router), abi.encodeCall(router.pull, (merchant, address(hostile))));
        router.pull(merchant, address(hostile));
        same(bytes32(bytes4(hostile.answer())), bytes32(ReentrancyGuard.ReentrancyGuardReentrantCall.selector));
        same(hostile.balanceOf(merchant), 970);
        same(hostile.balanceOf(address(router)), 0);
    }

    // --- what an allowance is used up for (FIELD_FAILURES 56) ---

    function test_ff56_a_token_that_answers_false_uses_up_neither_allowance_nor_quote() external {
        hostile.approve(address(router), 1_000);
        hostile.set(HostileToken.Mode.ReturnsFalse);
        IPaymentRouter.Quote memory quote = _quote(address(hostile), 1_000, 300);
        _payRefused(
            quote, abi.encodeWithSelector(SafeERC20.SafeERC20FailedOperation.selector, address(hostile))
        );
        same(hostile.allowance(payer, address(router)), 1_000);
        isTrue(!router.isQuoteUsed(vm.addr(GATEWAY), quote));
        hostile.set(HostileToken.Mode.Plain);
        _pay(quote);
        same(hostile.allowance(payer, address(router)), 0);
    }

    function test_ff56_a_token_that_answers_nothing_is_split_credited_and_pulled_like_others() external {
        Silent silent = new Silent();
        enactAsset("SLNT", address(silent));
        silent.mint(payer, 3_000);
        silent.approve(address(router), 3_000);
        IPaymentRouter.Quote memory quote = _quote(address(silent), 1_000, 300);
        _pay(quote);
        same(silent.balanceOf(address(treasury)), 30);
        same(silent.balanceOf(merchant), 970);
        quote.nonce = 8;
        (bytes32 r, bytes32 vs) = _signed(quote, GATEWAY);
        router.payWithAuthorization(quote, r, vs, IPaymentRouter.Authorization(payer, 27, 0, 0));
        same(silent.balanceOf(merchant), 2 * 970);
        IPaymentRouter.Terms[] memory terms = _terms(1);
        silent.mint(router.depositAddress(terms[0]), 1_000);
        router.flush(terms, address(silent));
        same(silent.balanceOf(address(treasury)), 2 * 30 + 10);
        silent.deny(merchant);
        quote.nonce = 9;
        _pay(quote);
        silent.mint(router.depositAddress(terms[0]), 1_000);
        router.flush(terms, address(silent));
        same(router.credit(merchant, address(silent)), 970 + 990);
        silent.deny(address(0));
        router.pull(merchant, address(silent));
        same(silent.balanceOf(merchant), 2 * 970 + 990 + 970 + 990);
        same(silent.balanceOf(address(router)), 0);
    }

    function test_ff56_a_quote_of_nothing_is_refused_however_it_is_paid() external {
        IPaymentRouter.Quote memory quote = _quote(address(token), 0, 300);
        bytes memory refusal = abi.encodeWithSelector(IPaymentRouter.AmountIsZero.selector, quote.invoice);
        _payRefused(quote, refusal);
        (bytes32 r, bytes32 vs) = _signed(quote, GATEWAY);
        vm.expectRevert(refusal);
        router.payWithPermit2(quote, r, vs, _noPermit2());
        vm.expectRevert(refusal);
        router.payWithAuthorization(quote, r, vs, IPaymentRouter.Authorization(payer, 27, 0, 0));
        quote.token = Money.COIN;
        (r, vs) = _signed(quote, GATEWAY);
        vm.expectRevert(refusal);
        router.payNative(quote, r, vs);
    }

    /// @dev Two nonces that differ in one bit, whichever, are two quotes; none comes round to another.
    function testFuzz_ff56_no_nonce_wraps_into_another(uint256 nonce, uint8 bit) external {
        IPaymentRouter.Quote memory quote = _quote(address(token), 1_000, 300);
        IPaymentRouter.Quote memory other = _quote(address(token), 1_000, 300);
        quote.nonce = nonce;
        other.nonce = nonce ^ (uint256(1) << bit);
        _pay(quote);
        isTrue(!router.isQuoteUsed(vm.addr(GATEWAY), other));
        _pay(other);
        isTrue(router.isQuoteUsed(vm.addr(GATEWAY), quote) && router.isQuoteUsed(vm.addr(GATEWAY), other));
        _payRefused(quote, abi.encodeWithSelector(IPaymentRouter.QuoteUsed.selector, router.quoteHash(quote)));
    }

    // --- whose quote it is (LEAKS 24) ---

    function test_leak_24_a_quote_is_of_one_ledger_and_after_a_fork_of_one_side() external {
        IPaymentRouter.Quote memory quote = _quote(address(token), 1_000, 300);
        bytes32 kind = keccak256(
            "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract,bytes32 salt)"
        );
        bytes32 domain = keccak256(
            abi.encode(
                kind, keccak256("Qazyna"), keccak256("1"), block.chainid, address(council), keccak256("another")
            )
        );
        bytes32 digest = keccak256(abi.encodePacked(hex"1901", domain, router.quoteHash(quote)));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(GATEWAY, digest);
        _payRefusedAsNobodys(quote, r, compact(v, s));
        bytes32 vs;
        (r, vs) = _signed(quote, GATEWAY);
        vm.chainId(1);
        _payRefusedAsNobodys(quote, r, vs);
        // There the gateway signs anew, in that chain's domain.
        (r, vs) = _signed(quote, GATEWAY);
        router.pay(quote, r, vs);
    }

    /// @dev The signature recovers to nobody in particular, who has no seat.
    function _payRefusedAsNobodys(IPaymentRouter.Quote memory quote, bytes32 r, bytes32 vs) private {
        try router.pay(quote, r, vs) {
            isTrue(false);
        } catch (bytes memory refusal) {
            same(bytes32(bytes4(refusal)), bytes32(IPaymentRouter.NotSeated.selector));
        }
    }

    function _noPermit() private pure returns (IPaymentRouter.Permit memory permit) {}

    function _noPermit2() private pure returns (IPaymentRouter.Permit2 memory permit) {}

    // --- deposit addresses ---

    function testFuzz_a_flush_splits_all_of_it_and_never_below_the_least_share(uint128 amount, uint16 share) external {
        amount = uint128(within(amount, 1, type(uint128).max - 1e30));
        IPaymentRouter.Terms[] memory terms = _terms(1);
        terms[0].shareBps = uint16(within(share, 0, 10_000));
        token.mint(router.depositAddress(terms[0]), amount);
        router.flush(terms, address(token));
        uint256 least = terms[0].shareBps < 100 ? 100 : terms[0].shareBps;
        same(token.balanceOf(address(treasury)), (uint256(amount) * least + 9_999) / 10_000);
        same(token.balanceOf(address(treasury)) + token.balanceOf(merchant), amount);
    }

    function test_a_batch_passes_over_the_empty_and_flushes_again_later() external {
        IPaymentRouter.Terms[] memory terms = _terms(3);
        token.mint(router.depositAddress(terms[0]), 1_000);
        token.mint(router.depositAddress(terms[2]), 2_000);
        router.flush(terms, address(token));
        same(token.balanceOf(address(treasury)), 10 + 20);
        isTrue(router.depositAddress(terms[1]).code.length == 0);
        token.mint(router.depositAddress(terms[0]), 3_000);
        router.flush(terms, address(token));
        same(token.balanceOf(address(treasury)), 60);
        same(token.balanceOf(merchant), 5_940);
    }

    function test_coin_at_a_deposit_address_is_split_and_a_merchant_that_refuses_is_credited() external {
        merchant = address(closed);
        IPaymentRouter.Terms[] memory terms = _terms(1);
        vm.deal(router.depositAddress(terms[0]), 1_000);
        router.flush(terms, Money.COIN);
        same(address(treasury).balance, 10);
        same(router.credit(merchant, Money.COIN), 990);
        (bool taken,) = router.depositAddress(terms[0]).call{value: 500}("");
        isTrue(taken);
        router.flush(terms, Money.COIN);
        same(router.credit(merchant, Money.COIN), 990 + 495);
        same(address(router).balance, 990 + 495);
    }

    function test_a_flush_says_what_the_city_got_even_of_a_token_that_takes_a_fee() external {
        IPaymentRouter.Terms[] memory terms = _terms(1);
        address deposit = router.depositAddress(terms[0]);
        hostile.mint(deposit, 1_000);
        hostile.set(HostileToken.Mode.TakesFee);
        vm.expectEmit(address(router));
        emit IPaymentRouter.Flushed(terms[0].invoice, deposit, address(hostile), 1_000, 9);
        router.flush(terms, address(hostile));
        same(hostile.balanceOf(address(treasury)), 9);
    }

    function test_a_token_that_the_council_never_allowed_leaves_a_deposit_address_by_the_same_split_alone() external {
        TestToken wrong = new TestToken("Wrong", "WRNG");
        IPaymentRouter.Terms[] memory terms = _terms(1);
        address deposit = router.depositAddress(terms[0]);
        wrong.mint(deposit, 1_001);
        token.mint(deposit, 500);
        vm.deal(deposit, 300);
        // What was asked for first, then what came by mistake, brought by anybody.
        router.flush(terms, address(token));
        vm.prank(vm.addr(STRANGER));
        router.flush(terms, address(wrong));
        same(wrong.balanceOf(address(treasury)), 11);
        same(wrong.balanceOf(merchant), 990);
        router.flush(terms, Money.COIN);
        same(address(treasury).balance, 3);
        same(merchant.balance, 297);
        // Other terms have another address, so nobody says afterwards who gets it or how much.
        wrong.mint(deposit, 1_000);
        IPaymentRouter.Terms[] memory others = _terms(1);
        others[0].merchant = builder;
        router.flush(others, address(wrong));
        others = _terms(1);
        others[0].shareBps = 10_000;
        router.flush(others, address(wrong));
        same(wrong.balanceOf(deposit), 1_000);
        same(wrong.balanceOf(builder), 0);
    }

    function test_one_that_is_named_twice_in_a_batch_is_split_once() external {
        IPaymentRouter.Terms[] memory terms = _terms(2);
        terms[1] = terms[0];
        token.mint(router.depositAddress(terms[0]), 1_000);
        router.flush(terms, address(token));
        same(token.balanceOf(address(treasury)), 10);
        same(token.balanceOf(merchant), 990);
    }

    function test_a_deposit_address_obeys_its_router_alone() external {
        IPaymentRouter.Terms[] memory terms = _terms(1);
        DepositAddress deposit = DepositAddress(payable(router.depositAddress(terms[0])));
        token.mint(address(deposit), 1_000);
        router.flush(terms, address(token));
        token.mint(address(deposit), 1_000);
        vm.expectRevert(abi.encodeWithSelector(DepositAddress.NotTheRouter.selector, address(router), payer));
        deposit.send(address(token), payer, 1);
    }

    function test_terms_that_leave_somebody_out_have_no_address() external {
        IPaymentRouter.Terms memory terms = _terms(1)[0];
        terms.merchant = address(0);
        vm.expectRevert(abi.encodeWithSelector(IPaymentRouter.MerchantNotAllowed.selector, address(0)));
        router.depositAddress(terms);
        terms.shareBps = 10_001;
        vm.expectRevert(abi.encodeWithSelector(IPaymentRouter.ShareTooLarge.selector, 10_000, 10_001));
        router.depositAddress(terms);
        terms.shareBps = 10_000;
        isTrue(router.depositAddress(terms) != address(0));
    }

    function testFuzz_other_terms_have_another_address(bytes32 invoice, bytes32 purpose, address other, uint16 share)
        external
        view
    {
        IPaymentRouter.Terms memory terms = _terms(1)[0];
        address deposit = router.depositAddress(terms);
        share = uint16(within(share, 0, 10_000));
        vm.assume(other != address(0) && other != address(router));
        vm.assume(
            invoice != terms.invoice || purpose != terms.purpose || other != terms.merchant || share != terms.shareBps
        );
        isTrue(router.depositAddress(IPaymentRouter.Terms(invoice, purpose, other, share)) != deposit);
    }

    function test_who_gets_nothing_of_a_payment_is_not_called() external {
        Forwarding forwarding = new Forwarding(payable(builder));
        IPaymentRouter.Quote memory quote = _quote(Money.COIN, 1_000, 10_000);
        quote.merchant = address(forwarding);
        _payNative(quote, 1_000);
        same(forwarding.calls(), 0);
        (quote.shareBps, quote.nonce) = (9_999, 8);
        quote.amount = 10_000;
        _payNative(quote, 10_000);
        same(forwarding.calls(), 1);
        same(builder.balance, 1);
    }

    function test_what_is_kept_of_the_council_is_not_asked_again() external {
        _pay(_quote(address(token), 1_000, 300));
        token.mint(router.depositAddress(_terms(1)[0]), 1_000);
        router.flush(_terms(1), address(token));
        IPaymentRouter.Quote memory quote = _quote(address(token), 1_000, 300);
        quote.nonce = 127;
        (bytes32 r, bytes32 vs) = _signed(quote, GATEWAY);
        token.mint(router.depositAddress(_terms(1)[0]), 1_000);
        vm.warp(block.timestamp + 14 days - 1);
        quote.validUntil = block.timestamp;
        (r, vs) = _signed(quote, GATEWAY);
        vm.expectCall(address(council), "", 0);
        router.pay(quote, r, vs);
        router.flush(_terms(1), address(token));
        same(token.balanceOf(address(treasury)), 2 * 30 + 2 * 10);
    }

    function test_nothing_is_moved_for_who_gets_nothing() external {
        enactShare("free", 0);
        IPaymentRouter.Quote memory quote = _quote(address(hostile), 1_000, 10_000);
        _pay(quote);
        same(hostile.moves(), 1);
        IPaymentRouter.Terms[] memory terms = _terms(1);
        terms[0].shareBps = 10_000;
        hostile.mint(router.depositAddress(terms[0]), 1_000);
        router.flush(terms, address(hostile));
        same(hostile.moves(), 2);
        (terms[0].purpose, terms[0].shareBps) = ("free", 0);
        hostile.mint(router.depositAddress(terms[0]), 1_000);
        router.flush(terms, address(hostile));
        same(hostile.moves(), 3);
        same(hostile.balanceOf(merchant), 1_000);
    }

    function test_each_part_is_measured_even_if_the_merchant_is_denied() external {
        hostile.deny(merchant);
        hostile.tax(address(treasury));
        IPaymentRouter.Quote memory quote = _quote(address(hostile), 1_000, 300);
        _payRefused(
            quote, abi.encodeWithSelector(IPaymentRouter.AmountDiffers.selector, address(treasury), 30, 29)
        );
        hostile.tax(address(router));
        _payRefused(
            quote, abi.encodeWithSelector(IPaymentRouter.AmountDiffers.selector, address(router), 970, 969)
        );
        hostile.tax(address(0));
        _pay(quote);
        same(router.credit(merchant, address(hostile)), 970);
    }

    function test_terms_that_leave_somebody_out_are_not_flushed() external {
        IPaymentRouter.Terms[] memory terms = _terms(1);
        terms[0].merchant = address(0);
        vm.expectRevert(abi.encodeWithSelector(IPaymentRouter.MerchantNotAllowed.selector, address(0)));
        router.flush(terms, address(token));
        terms[0].merchant = address(router);
        vm.expectRevert(abi.encodeWithSelector(IPaymentRouter.MerchantNotAllowed.selector, address(router)));
        router.flush(terms, address(token));
        (terms[0].merchant, terms[0].shareBps) = (merchant, 10_001);
        vm.expectRevert(abi.encodeWithSelector(IPaymentRouter.ShareTooLarge.selector, 10_000, 10_001));
        router.flush(terms, address(token));
    }

    function test_what_is_kept_ends_with_the_first_of_its_answers() external {
        uint256 now_ = block.timestamp;
        enactShare("sale", 400);
        vm.warp(now_ + 13 days);
        IPaymentRouter.Quote memory quote = _quote(address(token), 1_000, 300);
        quote.validUntil = FOREVER;
        _pay(quote);
        vm.warp(now_ + 14 days - 1);
        quote.nonce = 8;
        _pay(quote);
        vm.warp(now_ + 14 days);
        quote.nonce = 9;
        _payRefused(quote, abi.encodeWithSelector(IPaymentRouter.ShareTooSmall.selector, 400, 300));
        enactParameter(Names.DIRECT_SETTLEMENT, 0);
        vm.warp(now_ + 27 days);
        quote.shareBps = 400;
        _pay(quote);
        token.mint(router.depositAddress(_terms(1)[0]), 1_000);
        router.flush(_terms(1), address(token));
        vm.warp(now_ + 28 days);
        quote.nonce = 10;
        _payRefused(quote, abi.encodeWithSelector(IPaymentRouter.DirectSettlementOff.selector, 1, 0));
        token.mint(router.depositAddress(_terms(1)[0]), 1_000);
        vm.expectRevert(abi.encodeWithSelector(IPaymentRouter.DirectSettlementOff.selector, 1, 0));
        router.flush(_terms(1), address(token));
    }

    function test_an_asset_is_taken_from_its_first_second_on() external {
        uint64 from = uint64(block.timestamp) + 1 days;
        enact(
            abi.encode(
                Records.ASSET, Records.Asset(START, "LATE", 6, block.chainid, address(this), from, FOREVER, ACT)
            )
        );
        IPaymentRouter.Quote memory quote = _quote(address(this), 1_000, 300);
        quote.validUntil = FOREVER;
        vm.warp(from - 1);
        _payRefused(
            quote, abi.encodeWithSelector(IPaymentRouter.AssetNotInForce.selector, from, FOREVER, from - 1)
        );
        vm.warp(from);
        // This contract is no token, which only whoever may take it finds out.
        _payRefused(quote, "");
    }

    // --- what is told ---

    function test_each_payment_is_told_with_the_citys_part() external {
        IPaymentRouter.Quote memory quote = _quote(address(token), 1_001, 300);
        (bytes32 r, bytes32 vs) = _signed(quote, GATEWAY);
        vm.expectEmit(address(router));
        emit IPaymentRouter.Paid(quote.invoice, address(token), 1_001, 31);
        router.pay(quote, r, vs);
    }

    function test_what_is_credited_and_pulled_is_told() external {
        hostile.deny(merchant);
        IPaymentRouter.Quote memory quote = _quote(address(hostile), 1_000, 300);
        (bytes32 r, bytes32 vs) = _signed(quote, GATEWAY);
        vm.expectEmit(address(router));
        emit IPaymentRouter.Paid(quote.invoice, address(hostile), 1_000, 30);
        vm.expectEmit(address(router));
        emit IPaymentRouter.Credited(merchant, address(hostile), 970);
        router.pay(quote, r, vs);
        vm.expectRevert(
            abi.encodeWithSelector(IPaymentRouter.NotReceived.selector, merchant, address(hostile))
        );
        router.pull(merchant, address(hostile));
        hostile.deny(address(0));
        vm.expectEmit(address(router));
        emit IPaymentRouter.Pulled(merchant, address(hostile), 970);
        router.pull(merchant, address(hostile));
        same(router.credit(merchant, address(hostile)), 0);
        vm.expectRevert(
            abi.encodeWithSelector(IPaymentRouter.NothingCredited.selector, merchant, address(hostile))
        );
        router.pull(merchant, address(hostile));
    }

    function test_a_flush_is_told_with_what_the_city_received() external {
        IPaymentRouter.Terms[] memory terms = _terms(1);
        address deposit = router.depositAddress(terms[0]);
        token.mint(deposit, 1_001);
        vm.expectEmit(address(router));
        emit IPaymentRouter.Flushed(terms[0].invoice, deposit, address(token), 1_001, 11);
        router.flush(terms, address(token));
        same(token.balanceOf(address(treasury)), 11);
        same(token.balanceOf(merchant), 990);
    }

    // --- in short ---

    function _quote(address token_, uint128 amount, uint16 share) private view returns (IPaymentRouter.Quote memory) {
        return IPaymentRouter.Quote(
            keccak256("invoice"), "sale", merchant, token_, amount, share, uint64(block.timestamp) + 60, 7
        );
    }

    function _terms(uint256 count) private view returns (IPaymentRouter.Terms[] memory terms) {
        terms = new IPaymentRouter.Terms[](count);
        for (uint256 i = 0; i < count; ++i) {
            terms[i] = IPaymentRouter.Terms(bytes32(i + 1), "sale", merchant, 100);
        }
    }

    function _signed(IPaymentRouter.Quote memory quote, uint256 key) private view returns (bytes32, bytes32) {
        bytes32 digest = keccak256(abi.encodePacked(hex"1901", council.domainSeparator(), router.quoteHash(quote)));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, digest);
        return (r, compact(v, s));
    }

    function _pay(IPaymentRouter.Quote memory quote) private {
        (bytes32 r, bytes32 vs) = _signed(quote, GATEWAY);
        router.pay(quote, r, vs);
    }

    function _payNative(IPaymentRouter.Quote memory quote, uint256 value) private {
        (bytes32 r, bytes32 vs) = _signed(quote, GATEWAY);
        router.payNative{value: value}(quote, r, vs);
    }

    function _payRefused(IPaymentRouter.Quote memory quote, bytes memory refusal) private {
        (bytes32 r, bytes32 vs) = _signed(quote, GATEWAY);
        vm.expectRevert(refusal);
        router.pay(quote, r, vs);
    }
}
