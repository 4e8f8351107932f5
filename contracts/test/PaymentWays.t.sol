// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IPaymentRouter} from "../src/interfaces/IPaymentRouter.sol";
import {Names} from "../src/Names.sol";
import {PaymentRouter} from "../src/PaymentRouter.sol";
import {Records} from "../src/Records.sol";
import {City} from "./City.sol";
import {HostileToken, Silent} from "./HostileTokens.sol";
import {TestToken} from "./TestToken.sol";
import {vm} from "./Vm.sol";

/// @notice A token that says yes to an authorization it has seen, and moves nothing (FIELD_FAILURES 21).
contract Forgetful is HostileToken {
    function receiveWithAuthorization(
        address,
        address,
        uint256,
        uint256,
        uint256,
        bytes32,
        uint8,
        bytes32,
        bytes32
    ) external {}
}

/// @notice A token that asks nobody's signature, so that a test need not make one.
contract Trusting is HostileToken {
    function receiveWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256,
        uint256,
        bytes32,
        uint8,
        bytes32,
        bytes32
    ) external {
        _transfer(from, to, value);
    }
}

/// @notice Payments by what the payer signed, whoever brings it; and how long the router keeps what the Council said.
contract PaymentWaysTest is City {
    address internal constant PERMIT2 = 0x000000000022D473030F116dDEE9F6B43aC78BA3;
    uint256 internal constant PAYER = 1_005;
    string internal constant QUOTE =
        "Quote(bytes32 invoice,bytes32 purpose,address merchant,address token,uint256 amount,uint256 shareBps,uint256 validUntil,uint256 nonce)";

    address internal payer = vm.addr(PAYER);
    Forgetful internal forgetful;

    function setUp() public override {
        super.setUp();
        forgetful = new Forgetful();
        enactAsset("TKZT", address(token));
        enactAsset("HOST", address(forgetful));
        enactShare("sale", 100);
        enactParameter(Names.DIRECT_SETTLEMENT, 1);
        vm.warp(START + 14 days);
        token.mint(payer, 1e30);
        forgetful.mint(payer, 1e30);
        vm.chainId(31337);
        vm.etch(PERMIT2, vm.parseBytes(vm.trim(vm.readFile("var/permit2/code.hex"))));
    }

    // --- EIP-3009 ---

    function test_ff22_an_authorization_pays_its_quote_once_whoever_brings_it() external {
        IPaymentRouter.Quote memory quote = _quote(1_001, 1);
        (bytes32 r, bytes32 vs) = _signed(quote);
        IPaymentRouter.Authorization memory authorization = _authorization(quote);
        vm.prank(vm.addr(STRANGER));
        router.payWithAuthorization(quote, r, vs, authorization);
        _expectSplit(1_001);
        vm.expectRevert(abi.encodeWithSelector(IPaymentRouter.QuoteUsed.selector, router.quoteHash(quote)));
        router.payWithAuthorization(quote, r, vs, authorization);
        // Nor does it pay another quote of the same amount.
        quote = _quote(1_001, 2);
        (r, vs) = _signed(quote);
        vm.expectRevert();
        router.payWithAuthorization(quote, r, vs, authorization);
        isTrue(!router.isQuoteUsed(vm.addr(GATEWAY), quote));
    }

    function test_ff21_a_token_that_does_not_refuse_a_used_authorization_is_not_believed() external {
        IPaymentRouter.Quote memory quote = _quote(1_001, 1);
        quote.token = address(forgetful);
        (bytes32 r, bytes32 vs) = _signed(quote);
        IPaymentRouter.Authorization memory authorization = IPaymentRouter.Authorization(payer, 27, 0, 0);
        vm.expectRevert(
            abi.encodeWithSelector(IPaymentRouter.AmountDiffers.selector, address(router), 1_001, 0)
        );
        router.payWithAuthorization(quote, r, vs, authorization);
    }

    function test_an_authorization_by_somebody_else_pays_nothing() external {
        IPaymentRouter.Quote memory quote = _quote(1_001, 1);
        (bytes32 r, bytes32 vs) = _signed(quote);
        IPaymentRouter.Authorization memory authorization = _authorization(quote);
        authorization.from = builder;
        vm.expectRevert();
        router.payWithAuthorization(quote, r, vs, authorization);
    }

    function test_ff60_a_merchant_on_a_denylist_is_credited_by_authorization_too() external {
        Trusting trusting = new Trusting();
        trusting.mint(payer, 1_001);
        trusting.deny(merchant);
        enactAsset("TRST", address(trusting));
        IPaymentRouter.Quote memory quote = _quote(1_001, 1);
        quote.token = address(trusting);
        (bytes32 r, bytes32 vs) = _signed(quote);
        router.payWithAuthorization(quote, r, vs, IPaymentRouter.Authorization(payer, 27, 0, 0));
        same(trusting.balanceOf(address(treasury)), 31);
        same(router.credit(merchant, address(trusting)), 970);
        same(trusting.balanceOf(address(router)), 970);
    }

    function test_by_authorization_the_merchants_part_is_measured_and_nothing_is_moved_for_nobody() external {
        Trusting trusting = new Trusting();
        trusting.mint(payer, 10_000);
        enactAsset("TRST", address(trusting));
        enactShare("free", 0);
        IPaymentRouter.Quote memory quote = _quote(1_001, 1);
        quote.token = address(trusting);
        (bytes32 r, bytes32 vs) = _signed(quote);
        IPaymentRouter.Authorization memory authorization = IPaymentRouter.Authorization(payer, 27, 0, 0);
        trusting.tax(merchant);
        vm.expectRevert(abi.encodeWithSelector(IPaymentRouter.AmountDiffers.selector, merchant, 970, 969));
        router.payWithAuthorization(quote, r, vs, authorization);
        trusting.tax(address(treasury));
        vm.expectRevert(abi.encodeWithSelector(IPaymentRouter.AmountDiffers.selector, address(treasury), 31, 30));
        router.payWithAuthorization(quote, r, vs, authorization);
        trusting.tax(address(0));
        quote.shareBps = 10_000;
        (r, vs) = _signed(quote);
        router.payWithAuthorization(quote, r, vs, authorization);
        same(trusting.moves(), 1);
        (quote.purpose, quote.shareBps) = ("free", 0);
        (r, vs) = _signed(quote);
        router.payWithAuthorization(quote, r, vs, authorization);
        same(trusting.moves(), 2);
        same(trusting.balanceOf(merchant), 1_001);
    }

    function test_where_the_city_takes_nothing_the_merchants_part_is_measured() external {
        enactShare("free", 0);
        vm.prank(payer);
        forgetful.approve(address(router), type(uint256).max);
        IPaymentRouter.Quote memory quote = _quote(1_001, 1);
        (quote.token, quote.purpose, quote.shareBps) = (address(forgetful), "free", 0);
        (bytes32 r, bytes32 vs) = _signed(quote);
        forgetful.set(HostileToken.Mode.TakesFee);
        vm.prank(payer);
        vm.expectRevert(abi.encodeWithSelector(IPaymentRouter.AmountDiffers.selector, merchant, 1_001, 1_000));
        router.pay(quote, r, vs);
        forgetful.set(HostileToken.Mode.Plain);
        forgetful.deny(merchant);
        vm.prank(payer);
        router.pay(quote, r, vs);
        same(router.credit(merchant, address(forgetful)), 1_001);
        forgetful.deny(address(0));
        quote.nonce = 2;
        (r, vs) = _signed(quote);
        vm.prank(payer);
        router.pay(quote, r, vs);
        same(forgetful.balanceOf(merchant), 1_001);
    }

    function testFuzz_each_way_to_pay_splits_alike(uint128 amount, uint16 share, uint8 way) external {
        amount = uint128(within(amount, 1, 1e30));
        IPaymentRouter.Quote memory quote = _quote(amount, 1);
        quote.shareBps = within(share, 100, 10_000);
        _payBy(way % 4, quote);
        uint256 city = (uint256(amount) * quote.shareBps + 9_999) / 10_000;
        same(token.balanceOf(address(treasury)), city);
        same(token.balanceOf(merchant), amount - city);
        same(token.balanceOf(address(router)), 0);
    }

    function test_a_quote_is_paid_once_in_whatever_two_ways() external {
        for (uint256 first = 0; first < 4; ++first) {
            for (uint256 second = 0; second < 4; ++second) {
                IPaymentRouter.Quote memory quote = _quote(1_001, 4 * first + second);
                _payBy(first, quote);
                // Nor another quote with its number, of which the payer's signature is new.
                for (uint256 other = 0; other < 2; ++other) {
                    quote.amount += other;
                    _payRefusedBy(
                        second,
                        quote,
                        abi.encodeWithSelector(IPaymentRouter.QuoteUsed.selector, router.quoteHash(quote))
                    );
                }
            }
        }
        same(token.balanceOf(address(treasury)), 16 * 31);
    }

    function test_a_quote_that_breaks_a_rule_is_refused_in_whatever_way_it_is_paid() external {
        enactShare("fee", 10_000);
        for (uint256 way = 0; way < 4; ++way) {
            IPaymentRouter.Quote memory quote = _quote(1_001, 1);
            quote.shareBps = 99;
            _payRefusedBy(way, quote, abi.encodeWithSelector(IPaymentRouter.ShareTooSmall.selector, 100, 99));
            (quote.purpose, quote.shareBps) = ("fee", 9_999);
            _payRefusedBy(way, quote, abi.encodeWithSelector(IPaymentRouter.ShareTooSmall.selector, 10_000, 9_999));
            quote = _quote(1_001, 1);
            quote.validUntil = block.timestamp - 1;
            _payRefusedBy(
                way,
                quote,
                abi.encodeWithSelector(IPaymentRouter.QuoteExpired.selector, block.timestamp - 1, block.timestamp)
            );
            quote = _quote(1_001, 1);
            TestToken fake = new TestToken("Test tenge", "TKZT");
            quote.token = address(fake);
            _payRefusedBy(way, quote, abi.encodeWithSelector(IPaymentRouter.AssetNotAllowed.selector, address(fake)));
        }
        same(token.balanceOf(address(treasury)), 0);
        same(token.balanceOf(payer), 1e30);
    }

    /// @dev From outside, because what a payer signs asks the token first, which is a call too.
    function payBy(uint256 way, IPaymentRouter.Quote calldata quote) external {
        _payBy(way, quote);
    }

    function _payRefusedBy(uint256 way, IPaymentRouter.Quote memory quote, bytes memory why) private {
        try this.payBy(way, quote) {
            isTrue(false);
        } catch (bytes memory refusal) {
            same(keccak256(refusal), keccak256(why));
        }
    }

    // --- EIP-2612 ---

    function test_ff61_a_permit_that_somebody_brought_first_does_no_harm() external {
        IPaymentRouter.Quote memory quote = _quote(1_001, 1);
        (bytes32 r, bytes32 vs) = _signed(quote);
        IPaymentRouter.Permit memory permit = _permit(1_001);
        token.permit(payer, address(router), 1_001, permit.deadline, permit.v, permit.r, permit.s);
        vm.prank(payer);
        router.payWithPermit(quote, r, vs, permit);
        _expectSplit(1_001);
    }

    function test_a_permit_that_is_none_leaves_the_allowance_to_decide() external {
        IPaymentRouter.Quote memory quote = _quote(1_001, 1);
        (bytes32 r, bytes32 vs) = _signed(quote);
        IPaymentRouter.Permit memory permit = _permit(1_001);
        permit.value = 1_002;
        vm.prank(payer);
        vm.expectRevert();
        router.payWithPermit(quote, r, vs, permit);
        permit.value = 1_001;
        vm.prank(payer);
        router.payWithPermit(quote, r, vs, permit);
        _expectSplit(1_001);
    }

    function test_a_quote_in_coin_is_not_paid_by_permit() external {
        IPaymentRouter.Quote memory quote = _quote(1_001, 1);
        enactAsset("COIN", 0xEeeeeEeeeEeEeeEeEeEeeEEEeeeeEeeeeeeeEEeE);
        quote.token = 0xEeeeeEeeeEeEeeEeEeEeeEEEeeeeEeeeeeeeEEeE;
        (bytes32 r, bytes32 vs) = _signed(quote);
        IPaymentRouter.Permit memory permit = _permit(1_001);
        // There is no contract to show a permit to.
        vm.expectRevert();
        router.payWithPermit(quote, r, vs, permit);
    }

    // --- Permit2 ---

    function test_a_permit2_signature_pays_its_quote_and_no_other() external {
        _allowPermit2();
        IPaymentRouter.Quote memory quote = _quote(1_001, 1);
        (bytes32 r, bytes32 vs) = _signed(quote);
        IPaymentRouter.Permit2 memory permit = _permit2(quote, 5);
        IPaymentRouter.Quote memory other = _quote(1_001, 2);
        (bytes32 otherR, bytes32 otherVs) = _signed(other);
        vm.expectRevert(abi.encodeWithSignature("InvalidSigner()"));
        router.payWithPermit2(other, otherR, otherVs, permit);
        vm.prank(vm.addr(STRANGER));
        router.payWithPermit2(quote, r, vs, permit);
        _expectSplit(1_001);
        vm.expectRevert(abi.encodeWithSelector(IPaymentRouter.QuoteUsed.selector, router.quoteHash(quote)));
        router.payWithPermit2(quote, r, vs, permit);
    }

    function test_ff60_a_merchant_on_a_denylist_is_credited_however_it_is_paid() external {
        forgetful.deny(merchant);
        vm.prank(payer);
        forgetful.approve(PERMIT2, type(uint256).max);
        IPaymentRouter.Quote memory quote = _quote(1_001, 1);
        quote.token = address(forgetful);
        (bytes32 r, bytes32 vs) = _signed(quote);
        router.payWithPermit2(quote, r, vs, _permit2(quote, 5));
        same(forgetful.balanceOf(address(treasury)), 31);
        same(router.credit(merchant, address(forgetful)), 970);
        same(forgetful.balanceOf(address(router)), 970);
    }

    function test_by_permit2_what_was_there_before_is_not_counted() external {
        Trusting trusting = new Trusting();
        trusting.mint(payer, 1e30);
        enactAsset("TRST", address(trusting));
        vm.prank(payer);
        trusting.approve(PERMIT2, type(uint256).max);
        IPaymentRouter.Quote memory quote = _quote(1_001, 1);
        quote.token = address(trusting);
        for (uint256 i = 1; i < 6; ++i) {
            // To the merchant twice, then kept for it twice, then nothing for it.
            trusting.deny(i == 3 || i == 4 ? merchant : address(0));
            quote.nonce = i;
            if (i == 5) quote.shareBps = 10_000;
            (bytes32 r, bytes32 vs) = _signed(quote);
            router.payWithPermit2(quote, r, vs, _permit2(quote, i));
        }
        same(trusting.balanceOf(merchant), 2 * 970);
        same(router.credit(merchant, address(trusting)), 2 * 970);
        same(trusting.balanceOf(address(router)), 2 * 970);
        same(trusting.balanceOf(address(treasury)), 4 * 31 + 1_001);
    }

    function test_ff56_by_permit2_a_token_that_answers_nothing_is_split_like_others() external {
        Silent silent = new Silent();
        silent.mint(payer, 1_001);
        enactAsset("SLNT", address(silent));
        vm.prank(payer);
        silent.approve(PERMIT2, 1_001);
        IPaymentRouter.Quote memory quote = _quote(1_001, 1);
        quote.token = address(silent);
        (bytes32 r, bytes32 vs) = _signed(quote);
        router.payWithPermit2(quote, r, vs, _permit2(quote, 5));
        same(silent.balanceOf(address(treasury)), 31);
        same(silent.balanceOf(merchant), 970);
    }

    function test_a_token_that_takes_a_fee_is_refused_by_permit2_too() external {
        vm.prank(payer);
        forgetful.approve(PERMIT2, type(uint256).max);
        forgetful.set(HostileToken.Mode.TakesFee);
        IPaymentRouter.Quote memory quote = _quote(1_001, 1);
        quote.token = address(forgetful);
        (bytes32 r, bytes32 vs) = _signed(quote);
        IPaymentRouter.Permit2 memory permit = _permit2(quote, 5);
        vm.expectRevert(abi.encodeWithSelector(IPaymentRouter.AmountDiffers.selector, merchant, 970, 969));
        router.payWithPermit2(quote, r, vs, permit);
        quote.shareBps = 10_000;
        (r, vs) = _signed(quote);
        permit = _permit2(quote, 6);
        vm.expectRevert(
            abi.encodeWithSelector(IPaymentRouter.AmountDiffers.selector, address(treasury), 1_001, 1_000)
        );
        router.payWithPermit2(quote, r, vs, permit);
    }

    // --- what the router keeps of the Council ---

    function test_pages_of_quotes_do_not_disturb_each_other() external {
        vm.prank(payer);
        token.approve(address(router), type(uint256).max);
        uint16[6] memory nonces = [0, 127, 128, 255, 256, 1];
        for (uint256 i = 0; i < nonces.length; ++i) {
            _payBy(3, _quote(1_000, nonces[i]));
        }
        for (uint256 i = 0; i < nonces.length; ++i) {
            IPaymentRouter.Quote memory again = _quote(999, nonces[i]);
            (bytes32 r, bytes32 vs) = _signed(again);
            vm.prank(payer);
            vm.expectRevert(abi.encodeWithSelector(IPaymentRouter.QuoteUsed.selector, router.quoteHash(again)));
            router.pay(again, r, vs);
        }
        _payBy(3, _quote(1_000, 2));
        // Of another purpose the same nonce is another quote.
        enactShare("fee", 1);
        IPaymentRouter.Quote memory other = _quote(1_000, 0);
        other.purpose = "fee";
        _payBy(3, other);
    }

    function test_what_the_router_keeps_is_never_laxer_than_the_council() external {
        vm.prank(payer);
        token.approve(address(router), type(uint256).max);
        uint64 now_ = uint64(block.timestamp);
        _payBy(3, _quote(1_000, 1));
        // The share rises and direct settlement ends as soon as any act can make it so.
        enactShare("sale", 500);
        enactParameter(Names.DIRECT_SETTLEMENT, 0);
        vm.warp(now_ + 14 days - 1);
        _payBy(3, _quote(1_000, 2));
        vm.warp(now_ + 14 days);
        IPaymentRouter.Quote memory quote = _quote(1_000, 3);
        (bytes32 r, bytes32 vs) = _signed(quote);
        vm.prank(payer);
        vm.expectRevert(abi.encodeWithSelector(IPaymentRouter.DirectSettlementOff.selector, 1, 0));
        router.pay(quote, r, vs);
        Records.Parameter memory again = Records.Parameter(now_, Names.DIRECT_SETTLEMENT, 1, now_, ACT);
        enact(abi.encode(Records.PARAMETER, again));
        vm.warp(now_ + 28 days);
        quote = _quote(1_000, 3);
        (r, vs) = _signed(quote);
        vm.prank(payer);
        vm.expectRevert(abi.encodeWithSelector(IPaymentRouter.ShareTooSmall.selector, 500, 300));
        router.pay(quote, r, vs);
    }

    function test_a_gateway_whose_term_ends_signs_no_more_in_the_same_second() external {
        vm.prank(payer);
        token.approve(address(router), type(uint256).max);
        uint64 now_ = uint64(block.timestamp);
        Records.Seat memory short = seat(Names.GATEWAY, GATEWAY);
        short.validTo = now_ + 15 days;
        enact(abi.encode(Records.SEAT, short));
        vm.warp(now_ + 14 days + 1);
        _payBy(3, _quote(1_000, 1));
        vm.warp(now_ + 15 days - 1);
        _payBy(3, _quote(1_000, 2));
        vm.warp(now_ + 15 days);
        IPaymentRouter.Quote memory quote = _quote(1_000, 3);
        (bytes32 r, bytes32 vs) = _signed(quote);
        vm.prank(payer);
        vm.expectRevert(
            abi.encodeWithSelector(IPaymentRouter.NotSeated.selector, Names.GATEWAY, vm.addr(GATEWAY))
        );
        router.pay(quote, r, vs);
    }

    function test_a_flush_obeys_a_higher_share_from_its_first_second() external {
        uint64 now_ = uint64(block.timestamp);
        IPaymentRouter.Terms[] memory terms = new IPaymentRouter.Terms[](1);
        terms[0] = IPaymentRouter.Terms("invoice", "sale", merchant, 100);
        address deposit = router.depositAddress(terms[0]);
        enactShare("sale", 5_000);
        token.mint(deposit, 1_000);
        router.flush(terms, address(token));
        same(token.balanceOf(address(treasury)), 10);
        vm.warp(now_ + 14 days);
        token.mint(deposit, 1_000);
        router.flush(terms, address(token));
        same(token.balanceOf(address(treasury)), 510);
    }

    function test_an_amount_that_no_token_has_is_refused() external {
        IPaymentRouter.Quote memory quote = _quote(2 ** 128, 1);
        (bytes32 r, bytes32 vs) = _signed(quote);
        vm.expectRevert(
            abi.encodeWithSelector(IPaymentRouter.AmountTooLarge.selector, 2 ** 128 - 1, 2 ** 128)
        );
        router.pay(quote, r, vs);
    }

    function test_an_asset_whose_term_ends_is_taken_no_more_in_the_same_second() external {
        vm.prank(payer);
        token.approve(address(router), type(uint256).max);
        uint64 now_ = uint64(block.timestamp);
        TestToken brief = new TestToken("Brief", "BRF");
        brief.mint(payer, 10_000);
        vm.prank(payer);
        brief.approve(address(router), 10_000);
        enact(
            abi.encode(
                Records.ASSET,
                Records.Asset(START, "BRF", 6, block.chainid, address(brief), START, now_ + 2 days, ACT)
            )
        );
        IPaymentRouter.Quote memory quote = _quote(1_000, 1);
        quote.token = address(brief);
        (bytes32 r, bytes32 vs) = _signed(quote);
        vm.prank(payer);
        router.pay(quote, r, vs);
        vm.warp(now_ + 2 days);
        quote = _quote(1_000, 2);
        quote.token = address(brief);
        (r, vs) = _signed(quote);
        vm.prank(payer);
        vm.expectRevert(
            abi.encodeWithSelector(
                IPaymentRouter.AssetNotInForce.selector, START, now_ + 2 days, block.timestamp
            )
        );
        router.pay(quote, r, vs);
    }

    function test_a_flush_forgets_what_it_knows_when_either_answer_ends() external {
        uint64 now_ = uint64(block.timestamp);
        IPaymentRouter.Terms[] memory terms = new IPaymentRouter.Terms[](1);
        terms[0] = IPaymentRouter.Terms("invoice", "sale", merchant, 100);
        same(router.termsHash(terms[0]), keccak256(abi.encode(_TERMS, terms[0])));
        enactShare("sale", 5_000);
        vm.warp(now_ + 3 days);
        token.mint(router.depositAddress(terms[0]), 1_000);
        router.flush(terms, address(token));
        vm.warp(now_ + 14 days);
        token.mint(router.depositAddress(terms[0]), 1_000);
        router.flush(terms, address(token));
        same(token.balanceOf(address(treasury)), 510);
    }

    function test_coin_that_the_treasury_does_not_take_is_not_paid() external {
        PaymentRouter other = new PaymentRouter(council, address(forgetful));
        enactAsset("COIN", 0xEeeeeEeeeEeEeeEeEeEeeEEEeeeeEeeeeeeeEEeE);
        IPaymentRouter.Quote memory quote = _quote(1_001, 1);
        quote.token = 0xEeeeeEeeeEeEeeEeEeEeeEEEeeeeEeeeeeeeEEeE;
        (bytes32 r, bytes32 vs) = _signed(quote);
        vm.deal(address(this), 1_001);
        vm.expectRevert(
            abi.encodeWithSelector(IPaymentRouter.NotReceived.selector, address(forgetful), quote.token)
        );
        other.payNative{value: 1_001}(quote, r, vs);
    }

    // --- in short ---

    bytes32 private constant _TERMS =
        keccak256("Terms(bytes32 invoice,bytes32 purpose,address merchant,uint16 shareBps)");

    function _quote(uint256 amount, uint256 nonce) private view returns (IPaymentRouter.Quote memory) {
        uint256 until = block.timestamp + 60;
        return IPaymentRouter.Quote("invoice", "sale", merchant, address(token), amount, 300, until, nonce);
    }

    function _signed(IPaymentRouter.Quote memory quote) private view returns (bytes32, bytes32) {
        bytes32 domain = council.domainSeparator();
        (uint8 v, bytes32 r, bytes32 s) =
            vm.sign(GATEWAY, keccak256(abi.encodePacked(hex"1901", domain, router.quoteHash(quote))));
        return (r, compact(v, s));
    }

    function _expectSplit(uint256 amount) private view {
        uint256 city = (amount * 300 + 9_999) / 10_000;
        same(token.balanceOf(address(treasury)), city);
        same(token.balanceOf(merchant), amount - city);
        same(token.balanceOf(address(router)), 0);
    }

    function _payBy(uint256 way, IPaymentRouter.Quote memory quote) private {
        (bytes32 r, bytes32 vs) = _signed(quote);
        if (way == 0) {
            router.payWithAuthorization(quote, r, vs, _authorization(quote));
        } else if (way == 1) {
            _allowPermit2();
            router.payWithPermit2(quote, r, vs, _permit2(quote, quote.nonce));
        } else if (way == 2) {
            IPaymentRouter.Permit memory permit = _permit(quote.amount);
            vm.prank(payer);
            router.payWithPermit(quote, r, vs, permit);
        } else {
            vm.prank(payer);
            token.approve(address(router), type(uint256).max);
            vm.prank(payer);
            router.pay(quote, r, vs);
        }
    }

    function _allowPermit2() private {
        vm.prank(payer);
        token.approve(PERMIT2, type(uint256).max);
    }

    function _authorization(IPaymentRouter.Quote memory quote)
        private
        view
        returns (IPaymentRouter.Authorization memory)
    {
        bytes32 kind = keccak256(
            "ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
        );
        bytes32 hash = keccak256(
            abi.encode(kind, payer, address(router), quote.amount, 0, quote.validUntil + 1, router.quoteHash(quote))
        );
        bytes32 digest = keccak256(abi.encodePacked(hex"1901", token.DOMAIN_SEPARATOR(), hash));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(PAYER, digest);
        return IPaymentRouter.Authorization(payer, v, r, s);
    }

    function _permit(uint256 amount) private view returns (IPaymentRouter.Permit memory) {
        bytes32 kind =
            keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)");
        uint256 deadline = block.timestamp + 60;
        bytes32 hash =
            keccak256(abi.encode(kind, payer, address(router), amount, token.nonces(payer), deadline));
        bytes32 digest = keccak256(abi.encodePacked(hex"1901", token.DOMAIN_SEPARATOR(), hash));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(PAYER, digest);
        return IPaymentRouter.Permit(amount, deadline, v, r, s);
    }

    function _permit2(IPaymentRouter.Quote memory quote, uint256 nonce)
        private
        view
        returns (IPaymentRouter.Permit2 memory)
    {
        uint256 city = (quote.amount * quote.shareBps + 9_999) / 10_000;
        bytes32 kind = keccak256("TokenPermissions(address token,uint256 amount)");
        bytes32 permitted = keccak256(
            abi.encodePacked(
                keccak256(abi.encode(kind, quote.token, city)),
                keccak256(abi.encode(kind, quote.token, quote.amount - city))
            )
        );
        kind = keccak256(
            bytes.concat(
                "PermitBatchWitnessTransferFrom(TokenPermissions[] permitted,address spender,uint256 nonce,uint256 deadline,Quote witness)",
                bytes(QUOTE),
                "TokenPermissions(address token,uint256 amount)"
            )
        );
        bytes32 hash = keccak256(
            abi.encode(kind, permitted, address(router), nonce, quote.validUntil, router.quoteHash(quote))
        );
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,uint256 chainId,address verifyingContract)"),
                keccak256("Permit2"),
                31337,
                PERMIT2
            )
        );
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(PAYER, keccak256(abi.encodePacked(hex"1901", domain, hash)));
        return IPaymentRouter.Permit2(payer, nonce, abi.encodePacked(r, s, v));
    }
}
